"""The CNN of the course report that this project reproduces."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

IMAGE_SIZE = 32  # CIFAR-10's height and width in pixels


class ReportCNN(nn.Module):
    """Three convolution blocks and three dense layers, as the report's final model.

    Each block is a 5x5 convolution (stride 1, padding 2), batch normalisation, max pooling and ReLU (the same numbers
    as the report's ReLU before the pooling, from a quarter of the elements); between the dense layers
    (`hidden_features`, then `num_classes`) stand ReLU and dropout. Where the report's listing has slips (a repeated
    ReLU, a misspelt pool), its prose decides.

    Args:
        channels: output channels of the three convolutions; `(16, 32, 64)` is the report's narrow variant.
        hidden_features: widths of the two hidden dense layers.
        dropout: probability of zeroing a hidden feature in training, from 0 (no dropout) to below 1.
        max_pool_kernel: side and stride of every max pooling; the course fixes it at 2.
        num_classes: width of the output.

    Raises ValueError: a value is out of range, or the pooling leaves nothing of a 32x32 image.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        hidden_features: Sequence[int] = (100, 50),
        dropout: float = 0.3,
        max_pool_kernel: int = 2,
        num_classes: int = 10,
    ) -> None:
        self.arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        if not channels or not hidden_features or min(*channels, *hidden_features, num_classes) < 1:
            raise ValueError(
                f"channels, hidden_features and num_classes must hold numbers of at least 1, "
                f"got {list(channels)}, {list(hidden_features)} and {num_classes}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        if max_pool_kernel < 1 or IMAGE_SIZE // max_pool_kernel ** len(channels) < 1:
            raise ValueError(
                f"max_pool_kernel must be at least 1 and leave a pixel of {IMAGE_SIZE}x{IMAGE_SIZE} after "
                f"{len(channels)} poolings, got {max_pool_kernel}"
            )

        layers: OrderedDict[str, nn.Module] = OrderedDict()
        in_channels, size = 3, IMAGE_SIZE
        for index, out_channels in enumerate(channels, start=1):
            layers[f"conv{index}"] = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=5, stride=1, padding=2),
                nn.BatchNorm2d(out_channels),
                # The report has them the other way round. The values and the gradients are the same, bit for bit, since
                # ReLU keeps the order of values, and here it has a quarter of them to look at.
                nn.MaxPool2d(max_pool_kernel),
                nn.ReLU(),
            )
            in_channels, size = out_channels, size // max_pool_kernel
        layers["flatten"] = nn.Flatten()
        in_features = in_channels * size * size
        for index, out_features in enumerate(hidden_features, start=1):
            layers[f"dense{index}"] = nn.Sequential(
                nn.Linear(in_features, out_features), nn.ReLU(), nn.Dropout(dropout)
            )
            in_features = out_features
        layers["output"] = nn.Linear(in_features, num_classes)
        self.layers = nn.Sequential(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float images (N, 3, 32, 32) to logits (N, num_classes)."""
        return self.layers(images)
