"""ResNet-18 in the form that CIFAR-10 work has settled on: a 3x3 first layer, no pooling before the blocks."""

from torch import Tensor, nn

from cifar_lightning.nets.convolution import Conv2d


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to the input (He et al., arXiv 1512.03385).

    The first has the stride; where it or the channels change the shape, a 1x1 convolution does the same to the input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            Conv2d(in_channels, out_channels, stride=stride),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            Conv2d(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))
        self.activation = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return self.activation(self.residual(images) + self.shortcut(images))


class ResNet18(nn.Module):
    """Four stages of two basic blocks, from `width` to 8 times `width` channels.

    Args:
        width: channels of the first stage; 64 gives 11.2 million parameters.
        num_classes: width of the output.

    Raises ValueError: a value is below 1.
    """

    def __init__(self, width: int = 64, num_classes: int = 10) -> None:
        self.arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        if min(width, num_classes) < 1:
            raise ValueError(f"width and num_classes must be at least 1, got {width} and {num_classes}")
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        stages, in_channels = [], width
        for index in range(4):
            out_channels, stride = width * 2**index, 1 if index == 0 else 2
            stages.append(
                nn.Sequential(BasicBlock(in_channels, out_channels, stride), BasicBlock(out_channels, out_channels, 1))
            )
            in_channels = out_channels
        self.stage1, self.stage2, self.stage3, self.stage4 = stages
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.output = nn.Linear(in_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float images (N, 3, 32, 32) to logits (N, num_classes)."""
        features = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(images)))))
        return self.output(self.pool(features))
