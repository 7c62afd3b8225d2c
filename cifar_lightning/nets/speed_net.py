"""SpeedNet: a small net that learns in seconds, with a first layer that is computed instead of learnt."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lightning.nets.convolution import Conv2d

WHITENING_EPS = 5e-4  # added to the variances: directions that hardly vary are not blown up


class Whitening(nn.Module):
    """A fixed convolution whose outputs, over the patches of natural images, are uncorrelated and of variance about 1.

    Its filters are the principal components of the patches, each divided by its deviation, and their negatives, so
    that a rectifying activation keeps both signs (Page, "How to train your ResNet", 2018; the negatives and the added
    variance as in Jordan, arXiv 2404.00498). They are buffers, zero until `start_from_images`.

    Args:
        patterns: how many components; there are twice as many output channels.
        kernel_size: side of a patch.
        stride: between patches.
        padding: pixels of zeros around the image.
        bias: learn a bias per output channel. It costs the gradient of the whole net's input.

    Raises ValueError: there are fewer components than `patterns`, or none are asked for.
    """

    weight: Tensor

    def __init__(self, patterns: int, kernel_size: int, stride: int, padding: int, bias: bool) -> None:
        super().__init__()
        if not 1 <= patterns <= 3 * kernel_size**2:
            most = 3 * kernel_size**2
            raise ValueError(f"patterns must be from 1 to {most} with kernel_size {kernel_size}, got {patterns}")
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.register_buffer("weight", torch.zeros(2 * patterns, 3, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(2 * patterns)) if bias else None

    @torch.no_grad()
    def start_from_images(self, images: Tensor) -> None:
        """Computes the filters from normalised images (N, 3, H, W)."""
        # In float32 the order of the sums, and so the number of threads and processes, would show in the filters.
        patches = F.unfold(images.float(), self.kernel_size).double().transpose(1, 2).flatten(0, 1)
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))  # ascending, in columns
        filters = (components / (variances + WHITENING_EPS).sqrt()).T.flip(0)[: len(self.weight) // 2]
        self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised images (N, 3, H, W) to (N, 2 patterns, H', W')."""
        return F.conv2d(images, self.weight, self.bias, stride=self.stride, padding=self.padding)


class ConvGroup(nn.Module):
    """Convolutions of 3x3, each with batch normalisation and activation, and 2x2 max pooling after the first.

    The normalisations learn no scale: the next convolution does. A convolution starts as the identity on as many
    channels as it takes in and gives out, and at random on the others, so that deep nets learn from the first step
    (partial identity, arXiv 2404.00498).

    Args:
        in_channels: of the input.
        out_channels: of every convolution.
        depth: how many convolutions.
        residual: add what comes out of the first convolution to what comes out of the last.
        activation: makes the activation.
        identity: False starts all channels at random.
        winograd: see `Conv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        residual: bool,
        activation: type[nn.Module],
        identity: bool = True,
        winograd: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.first = nn.Sequential(
            _convolution(in_channels, out_channels, identity, winograd),
            nn.MaxPool2d(2),
            _normalisation(out_channels),
            activation(),
        )
        self.rest = nn.Sequential()
        for _ in range(depth - 1):
            self.rest.append(_convolution(out_channels, out_channels, identity, winograd))
            self.rest.append(_normalisation(out_channels))
            self.rest.append(activation())

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H // 2, W // 2)."""
        first = self.first(images)
        return first + self.rest(first) if self.residual else self.rest(first)


class GlobalMaxPool(nn.Module):
    """The largest value of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C)."""
        return images.amax(dim=(2, 3))


class SpeedNet(nn.Module):
    """A whitening layer, groups of convolutions, a maximum over what is left of the image, and one dense layer.

    The shape of airbench94 and airbench96 (Jordan, arXiv 2404.00498). The dense layer starts with weights of deviation
    1, and a constant scales its sums.

    Args:
        widths: channels of each group.
        depth: convolutions per group.
        residual: see `ConvGroup`.
        patterns: see `Whitening`.
        kernel_size: of the whitening.
        stride: of the whitening; 2 leaves a quarter of the work to everything behind it.
        padding: of the whitening, in pixels of the mean colour.
        whitening: False puts an ordinary convolution in its place, which learns.
        whitening_bias: see `Whitening`.
        identity: whether convolutions begin as the identity, see `ConvGroup`.
        activation: 'GELU', or 'ReLU', which costs a CPU less.
        winograd: train with Winograd's convolution where that is faster, see `Conv2d`.
        logit_scale: the constant; by default one divided by the number of features.
        num_classes: width of the output.

    Raises ValueError: a value is out of range, or the groups leave nothing of a 32x32 image.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 256, 256),
        depth: int = 2,
        residual: bool = False,
        patterns: int = 12,
        kernel_size: int = 2,
        stride: int = 1,
        padding: int = 0,
        whitening: bool = True,
        whitening_bias: bool = True,
        identity: bool = True,
        activation: Literal["GELU", "ReLU"] = "GELU",
        winograd: bool = False,
        logit_scale: float | None = None,
        num_classes: int = 10,
    ) -> None:
        self.arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        if not widths or min(*widths, depth, kernel_size, stride, num_classes) < 1 or padding < 0:
            raise ValueError(
                f"widths, depth, kernel_size, stride and num_classes must be at least 1 and padding at least 0, got "
                f"{list(widths)}, {depth}, {kernel_size}, {stride}, {num_classes} and {padding}"
            )
        if logit_scale is not None and logit_scale <= 0:
            raise ValueError(f"logit_scale must be above 0, got {logit_scale}")
        size = (32 + 2 * padding - kernel_size) // stride + 1
        if size // 2 ** len(widths) < 1:
            raise ValueError(f"{len(widths)} groups leave nothing of the {size}x{size} pixels behind the whitening")
        activations = {"GELU": nn.GELU, "ReLU": nn.ReLU}
        if activation not in activations:
            raise ValueError(f"activation must be one of {', '.join(activations)}, got {activation!r}")
        act = activations[activation]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        stem: nn.Module
        if whitening:
            stem = Whitening(patterns, kernel_size, stride, padding, whitening_bias)
        else:
            stem = nn.Conv2d(3, 2 * patterns, kernel_size, stride, padding, bias=whitening_bias)
        layers["stem"] = nn.Sequential(stem, act())
        in_channels = 2 * patterns
        for index, width in enumerate(widths, start=1):
            layers[f"group{index}"] = ConvGroup(in_channels, width, depth, residual, act, identity, winograd)
            in_channels = width
        layers["pool"] = GlobalMaxPool()
        layers["output"] = output = nn.Linear(in_channels, num_classes, bias=False)
        with torch.no_grad():
            output.weight.div_(output.weight.std())
        self.layers = nn.Sequential(layers)
        self.logit_scale = logit_scale or 1 / in_channels

    def start_from_images(self, images: Tensor) -> None:
        """Computes the whitening from normalised images (N, 3, 32, 32)."""
        for module in self.modules():
            if isinstance(module, Whitening):
                module.start_from_images(images)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float images (N, 3, 32, 32) to logits (N, num_classes)."""
        return self.layers(images) * self.logit_scale


def _convolution(in_channels: int, out_channels: int, identity: bool, winograd: bool = False) -> nn.Conv2d:
    convolution = Conv2d(in_channels, out_channels, winograd=winograd)
    if identity:
        nn.init.dirac_(convolution.weight.data[: min(in_channels, out_channels)])
    return convolution


def _normalisation(channels: int) -> nn.BatchNorm2d:
    # A short training has few batches to average: the running statistics follow quickly.
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm
