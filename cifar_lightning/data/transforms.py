"""Augmentation of many images at once, each with its own draw, on any device.

Images are (N, H, W, 3), as the data set stores them. Every function is pure: what is random comes in as tensors, which
`draw` makes for all images of an epoch.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn

# Per channel (R, G, B), measured over the 50,000 training images in units of 0 to 1.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)  # not 0.2023, 0.1994, 0.2010: those average each image's own deviation

Flip = Literal["none", "random", "alternating"]


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images; by default nothing.

    Args:
        flip: mirror left and right: 'random' flips a coin per image and epoch; 'alternating' flips it in the first
            epoch only and then shows each image and its mirror image in turn, so that two epochs hold every image in
            both forms (Jordan, arXiv 2404.00498).
        crop_padding: pixels by which an image is moved at most, up or down and left or right; what comes in over the
            edge is its reflection.
        cutout: side in pixels of a square painted in the mean colour, centred anywhere in the image (DeVries and
            Taylor, arXiv 1708.04552); 0 paints none.
        brightness: the most that is added to or taken from all pixels, in standard deviations.
        contrast: the most by which distances from the mean colour are scaled up or down, as a share.

    Raises ValueError: a value is out of range.
    """

    flip: Flip = "none"
    crop_padding: int = 0
    cutout: int = 0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if self.flip not in (flips := get_args(Flip)):
            raise ValueError(f"data.augment.flip must be one of {', '.join(flips)}, got {self.flip!r}")
        for name, least, most in (
            ("crop_padding", 0, 31),  # a reflection has no more than the image's other 31 pixels
            ("cutout", 0, 64),
            ("brightness", 0, 10),
            ("contrast", 0, 1),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"data.augment.{name} must be from {least} to {most}, got {getattr(self, name)}")


class Draws(NamedTuple):
    """One draw per image, on the CPU."""

    flips: Tensor  # bool (N,)
    shifts: Tensor  # int64 (N, 2), of the window: down and right, from -crop_padding to crop_padding
    cutouts: Tensor  # int64 (N, 2), row and column of the square's centre
    brightness: Tensor  # float32 (N,), from -brightness to brightness
    contrast: Tensor  # float32 (N,), from 1 - contrast to 1 + contrast


def draw(augmentation: Augmentation, size: int, epoch: int, first: Generator, current: Generator) -> Draws:
    """Draws for `size` images of 32x32 in `epoch`, counted from 0, whose generator is `current`.

    `first` is the generator of epoch 0, for what alternates from there.
    """
    # All are drawn, needed or not, so that switching one on leaves the others as they are.
    coins = torch.rand(size, generator=current) < 0.5
    if augmentation.flip == "alternating":
        coins = (torch.rand(size, generator=first) < 0.5) ^ (epoch % 2 == 1)
    padding = augmentation.crop_padding
    return Draws(
        flips=coins & (augmentation.flip != "none"),
        shifts=(torch.rand((size, 2), generator=current) * (2 * padding + 1)).long() - padding,
        cutouts=torch.randint(0, 32, (size, 2), generator=current),
        brightness=(2 * torch.rand(size, generator=current) - 1) * augmentation.brightness,
        contrast=1 + (2 * torch.rand(size, generator=current) - 1) * augmentation.contrast,
    )


class Normalize(nn.Module):
    """Turns uint8 images (N, 32, 32, 3) into normalised float32 of the same shape, by the training set's statistics.

    A module, so that its constants are made once, move to a device and become part of an exported file.
    """

    factor: Tensor
    summand: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in (CIFAR10_MEAN, CIFAR10_STD))
        # One of each for every value of an image: a long row is faster than a broadcast over three channels.
        self.register_buffer("factor", (1 / (255 * std)).repeat(32 * 32), persistent=False)
        self.register_buffer("summand", (-mean / std).repeat(32 * 32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Leaves `images` as they are."""
        return images.flatten(1).float().mul_(self.factor).add_(self.summand).view(images.shape)


def pad_reflect(images: Tensor, padding: int) -> Tensor:
    """(N, H, W, 3) with its reflection around it: (N, H + 2 padding, W + 2 padding, 3)."""
    rows, columns = (_reflected(size, padding).to(images.device) for size in images.shape[1:3])
    return images[:, rows][:, :, columns]


def windows(padded: Tensor, padding: int) -> Tensor:
    """All crops of padded images as a view: (N, 2 padding + 1, 2 padding + 1, H, W, 3).

    `windows(...)[image, down, right]` copies the crops that are wanted and nothing else, each row as one piece.
    """
    height, width = (size - 2 * padding for size in padded.shape[1:3])
    return padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """Images (N, H, W, 3) with those mirrored whose `flips` (N,) is set. On a CPU `images` itself is changed."""
    if images.device.type != "cpu":  # where to know how many they are would be to wait for the device
        return torch.where(flips[:, None, None, None], images.flip(2), images)
    chosen = torch.nonzero(flips).flatten()
    # Faster than torch.where over all of them, which takes each byte by itself.
    images[chosen] = images[chosen].flip(2)
    return images


def cutout(images: Tensor, centres: Tensor, side: int, fill: float = 0.0) -> Tensor:
    """Paints a square of `side` pixels around `centres` (N, 2) with `fill`, cut off at the edges; in place.

    The square reaches from `centre - side // 2` to below `centre - side // 2 + side`.
    """
    rows, columns = (
        _within(size, start, side) for size, start in zip(images.shape[1:3], centres.unbind(1), strict=True)
    )
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[..., None], fill)


def jitter(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Normalised images, each with its brightness added and then scaled by its contrast, both (N,); in place."""
    per_image = (-1, 1, 1, 1)
    return images.add_(brightness.view(per_image)).mul_(contrast.view(per_image))


def _reflected(size: int, padding: int) -> Tensor:
    """Which of `size` pixels stands at each place from -padding to size + padding."""
    places = torch.arange(-padding, size + padding).abs()
    return torch.where(places < size, places, 2 * (size - 1) - places)


def _within(size: int, centre: Tensor, side: int) -> Tensor:
    places = torch.arange(size, device=centre.device)
    start = (centre - side // 2)[:, None]
    return (places >= start) & (places < start + side)
