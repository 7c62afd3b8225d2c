"""What is exported: pictures in, probabilities out, with everything between them inside."""

import copy

from torch import Tensor, nn

from cifar_lightning.data.augment import Normalize
from cifar_lightning.inference.predictor import Predictor
from cifar_lightning.inference.trained import Trained


class PictureGraph(nn.Module):
    """The net of a checkpoint in float32 between the normalisation and the softmax.

    Args:
        trained: its net is copied.
        temperature: the logits are divided by it; 1 leaves them.
    """

    def __init__(self, trained: Trained, temperature: float) -> None:
        super().__init__()
        self.net = copy.deepcopy(trained.model.net).float()
        self.normalize = Normalize()
        self.temperature = temperature
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Maps pictures, uint8 (N, 32, 32, 3), to probabilities, float32 (N, C)."""
        inputs = self.normalize(images).permute(0, 3, 1, 2)
        return (self.net(inputs) / self.temperature).softmax(dim=1)


def graph_of(predictor: Predictor) -> PictureGraph:
    """The graph that gives a predictor's probabilities, but for the precision and without views."""
    return PictureGraph(predictor.trained, predictor.temperature or 1.0)
