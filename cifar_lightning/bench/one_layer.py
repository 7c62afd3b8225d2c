"""OneLayer: a net so small that a training step is all overhead."""

from torch import Tensor, nn


class OneLayer(nn.Module):
    """One dense layer on the flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Maps float images (N, 3, 32, 32) to logits (N, 10)."""
        return self.layers(images)
