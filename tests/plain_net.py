"""A net whose training does not depend on how a batch is shared out: no batch norm, no dropout."""

from torch import Tensor, nn


class PlainNet(nn.Module):
    """A convolution and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (N, 3, 32, 32) to logits (N, 10)."""
        return self.layers(images)
