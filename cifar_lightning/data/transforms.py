"""Augmentation of many images at once, each with its own draw, on any device.

Images are (N, H, W, 3), as the data set stores them. Every function is pure: what is random comes in as tensors, which
`draw` makes for all images of an epoch.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.distributions import Beta

from cifar_lightning.data import policies
from cifar_lightning.data.policies import Policy

# Per channel (R, G, B), measured over the 50,000 training images in units of 0 to 1.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)  # not 0.2023, 0.1994, 0.2010: those average each image's own deviation
# As many projects on torchvision have them, to four digits of (0.50707516, 0.48654887, 0.44091784) and (0.26733429,
# 0.25643846, 0.27615047). A test measures them where `$CIFAR100_ROOT` names the images; here they were not measured.
CIFAR100_MEAN = (0.5071, 0.4865, 0.4409)
CIFAR100_STD = (0.2673, 0.2564, 0.2762)
STATISTICS = {"cifar10": (CIFAR10_MEAN, CIFAR10_STD), "cifar100": (CIFAR100_MEAN, CIFAR100_STD)}

Flip = Literal["none", "random", "alternating"]


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images; by default nothing.

    Args:
        flip: mirror left and right: 'random' flips a coin per image and epoch; 'alternating' flips it in the first
            epoch only and then shows each image and its mirror image in turn, so that two epochs hold every image in
            both forms (Jordan, arXiv 2404.00498).
        crop_padding: pixels by which an image is moved at most, over its reflected edge.
        cutout: side in pixels of a square painted in the mean colour, centred anywhere in the image (DeVries and
            Taylor, arXiv 1708.04552); 0 paints none.
        brightness: the most that is added to or taken from all pixels, in standard deviations.
        contrast: the most by which distances from the mean colour are scaled, as a share.
        policy: random operations such as rotating: 'randaugment' (Cubuk et al., arXiv 1909.13719) or 'trivialaugment'
            (Mueller and Hutter, arXiv 2103.10158, its wide ranges).
        operations: of 'randaugment', how many are done to an image after each other.
        magnitude: of 'randaugment', how strong each is, from 0 to 30.
        erasing: probability that a rectangle of 2 to 33% of the image is painted (Zhong et al., arXiv 1708.04896), in
            the mean colour.
        mixup: alpha of the Beta distribution by which two images and labels are blended (Zhang et al.,
            arXiv 1710.09412); 0 blends none.
        cutmix: the same where a rectangle is pasted from the other image (Yun et al., arXiv 1905.04899). Where both
            are set, a coin decides for each image.
        sizes: side in pixels of images in the first epochs, one for each epoch; then 32. Small images cost less, and
            the net must take images of any size. It is the progressive resizing of Howard et al., "Now anyone can train
            ImageNet in 18 minutes", 2018.

    Raises ValueError: a value is out of range.
    """

    flip: Flip = "none"
    crop_padding: int = 0
    cutout: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    policy: Policy = "none"
    operations: int = 2
    magnitude: int = 9
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    sizes: list[int] | None = None

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and labels are shares."""
        return self.mixup > 0 or self.cutmix > 0

    def __post_init__(self) -> None:
        for name, kind in (("flip", Flip), ("policy", Policy)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"data.augment.{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}"
                )
        for name, least, most in (
            ("crop_padding", 0, 31),  # a reflection has no more than the image's other 31 pixels
            ("cutout", 0, 64),
            ("brightness", 0, 10),
            ("contrast", 0, 1),
            ("operations", 1, 10),
            ("magnitude", 0, policies.STRONGEST),
            ("erasing", 0, 1),
            ("mixup", 0, 100),
            ("cutmix", 0, 100),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"data.augment.{name} must be from {least} to {most}, got {getattr(self, name)}")
        for size in self.sizes or []:
            if not 4 <= size <= 32:
                raise ValueError(f"data.augment.sizes must be from 4 to 32, got {size}")

    def size_in(self, epoch: int) -> int:
        """The side in pixels of the images in `epoch`, counted from 0."""
        return self.sizes[epoch] if self.sizes and epoch < len(self.sizes) else 32


class Draws(NamedTuple):
    """One draw per image, on the CPU. From `numbers` on, what is not needed is not drawn: it is (N, 0)."""

    flips: Tensor  # bool (N,)
    shifts: Tensor  # int64 (N, 2), of the window: down and right, from -crop_padding to crop_padding
    cutouts: Tensor  # int64 (N, 2), row and column of the square's centre
    brightness: Tensor  # float32 (N,), from -brightness to brightness
    contrast: Tensor  # float32 (N,), from 1 - contrast to 1 + contrast
    numbers: Tensor  # of `policies.draw`
    values: Tensor
    erased: Tensor  # int64 (N, 2, 2): centre (row, column) and sides of the rectangle, 0 by 0 for none
    partners: Tensor  # int64 (N,), the images to be mixed with
    shares: Tensor  # float32 (N,), the own image's in the mixture
    pasted: Tensor  # int64 (N, 2, 2), as `erased`; 0 by 0 where the images are blended


def draw(augmentation: Augmentation, size: int, epoch: int, first: Generator, current: Generator) -> Draws:
    """Draws for `size` images of 32x32 in `epoch`, counted from 0, whose generator is `current`.

    `first` is the generator of epoch 0, for what alternates from there.
    """
    # All are drawn, needed or not, so that switching one on leaves the others as they are.
    coins = torch.rand(size, generator=current) < 0.5
    if augmentation.flip == "alternating":
        coins = (torch.rand(size, generator=first) < 0.5) ^ (epoch % 2 == 1)
    padding = augmentation.crop_padding
    drawn = Draws(
        flips=coins & (augmentation.flip != "none"),
        shifts=(torch.rand((size, 2), generator=current) * (2 * padding + 1)).long() - padding,
        cutouts=torch.randint(0, 32, (size, 2), generator=current),
        brightness=(2 * torch.rand(size, generator=current) - 1) * augmentation.brightness,
        contrast=1 + (2 * torch.rand(size, generator=current) - 1) * augmentation.contrast,
        **dict.fromkeys(("numbers", "values", "erased", "partners", "shares", "pasted"), torch.empty(size, 0)),
    )
    # One of each for what takes longer to draw, so that here too none depends on the others.
    seeds = torch.randint(2**62, (3,), generator=current).tolist()
    for_policy, for_erasing, for_mixing = (Generator().manual_seed(seed) for seed in seeds)
    if augmentation.policy != "none":
        numbers, values = policies.draw(
            augmentation.policy, augmentation.operations, augmentation.magnitude, size, for_policy
        )
        drawn = drawn._replace(numbers=numbers, values=values)
    if augmentation.erasing:
        drawn = drawn._replace(erased=_draw_erased(augmentation.erasing, size, for_erasing))
    if augmentation.mixes:
        partners, shares, pasted = _draw_mixture(augmentation, size, for_mixing)
        drawn = drawn._replace(partners=partners, shares=shares, pasted=pasted)
    return drawn


def _draw_erased(probability: float, size: int, generator: Generator) -> Tensor:
    """`Draws.erased`: an area of 2 to 33%, sides in a ratio of 0.3 to 3.3, wholly within the image."""
    is_erased, area, ratio, *corner = torch.rand((5, size), generator=generator)
    area, ratio = 32 * 32 * (0.02 + 0.31 * area), torch.exp(math.log(0.3) + math.log(3.3 / 0.3) * ratio)
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).round().clamp(max=32).long()
    corners = (torch.stack(corner, dim=1) * (33 - sides)).long()
    return torch.stack([corners + sides // 2, sides * (is_erased < probability)[:, None]], dim=1)


def _draw_mixture(augmentation: Augmentation, size: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`Draws.partners`, `shares` and `pasted`."""
    partners = torch.randperm(size, generator=generator)
    is_pasted = torch.rand(size, generator=generator) < (0.5 if augmentation.mixup else 1.0)
    centres = torch.randint(32, (size, 2), generator=generator)
    shares = {}
    with torch.random.fork_rng(devices=[]):  # Beta takes no generator
        torch.set_rng_state(generator.get_state())
        for name in ("mixup", "cutmix"):
            # In double precision, where a small alpha leaves float32's range.
            alpha = torch.tensor(getattr(augmentation, name) or 1.0, dtype=torch.float64)
            shares[name] = Beta(alpha, alpha).sample((size,)).float()
    is_pasted &= augmentation.cutmix > 0
    # Of cutmix the share is what the rectangle, cut off at the edges, leaves.
    sides = (32 * (1 - shares["cutmix"]).sqrt()).long()[:, None] * is_pasted[:, None]
    begin, end = (centres - sides // 2).clamp(min=0), (centres - sides // 2 + sides).clamp(max=32)
    left = 1 - (end - begin).prod(dim=1) / (32 * 32)
    return partners, torch.where(is_pasted, left, shares["mixup"]), torch.stack([centres, sides.expand(-1, 2)], dim=1)


class Normalize(nn.Module):
    """Turns uint8 images (N, 32, 32, 3) into normalised float32 of the same shape, by the training set's statistics.

    A module, so that its constants are made once, move to a device and become part of an exported file.

    Args:
        dataset: whose statistics, one of `STATISTICS`.
    """

    factor: Tensor
    summand: Tensor

    def __init__(self, dataset: str = "cifar10") -> None:
        super().__init__()
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in STATISTICS[dataset])
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


def resize(images: Tensor, size: int) -> Tensor:
    """Images (N, H, W, 3), of floats, as (N, size, size, 3): bilinear, with anti-aliasing."""
    sized = F.interpolate(images.permute(0, 3, 1, 2), size=(size, size), mode="bilinear", antialias=True)
    return sized.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)


def cutout(images: Tensor, centres: Tensor, side: int | Tensor, fill: float = 0.0) -> Tensor:
    """Paints rectangles around `centres` (N, 2) with `fill`; in place. `side` is theirs, as in `rectangles`."""
    return images.masked_fill_(rectangles(images, centres, side), fill)


def rectangles(images: Tensor, centres: Tensor, side: int | Tensor) -> Tensor:
    """Which pixels of images (N, H, W, 3) lie in the rectangle around `centres` (N, 2): bool (N, H, W, 1).

    It reaches from `centre - side // 2` to below `centre - side // 2 + side`, cut off at the edges. `side` is a
    square's, of all images, or int64 (N, 2), the height and width of each.
    """
    first = centres - side // 2
    last = first + side
    rows, columns = (
        (places >= first[:, axis, None]) & (places < last[:, axis, None])
        for axis in (0, 1)
        for places in [torch.arange(images.shape[1 + axis], device=images.device)]
    )
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def mix(images: Tensor, others: Tensor, shares: Tensor, pasted: Tensor) -> Tensor:
    """Blends images (N, H, W, 3) with `others`, or pastes a rectangle of these; both are changed.

    `shares` and `pasted` are as `Draws` has them.
    """
    is_kept = ~rectangles(images, pasted[:, 0], pasted[:, 1])
    own = torch.where((pasted[:, 1, 0] > 0)[:, None, None, None], is_kept, shares[:, None, None, None])
    return images.mul_(own).add_(others.mul_(1 - own))


def mix_labels(labels: Tensor, others: Tensor, shares: Tensor, num_classes: int) -> Tensor:
    """The shares of the classes in each mixture, float32 (N, num_classes), of int64 labels (N,) and their `shares`."""
    one_hot = torch.eye(num_classes, device=labels.device)
    return one_hot[labels] * shares[:, None] + one_hot[others] * (1 - shares[:, None])


def jitter(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Normalised images, each with its brightness added and then scaled by its contrast, both (N,); in place."""
    per_image = (-1, 1, 1, 1)
    return images.add_(brightness.view(per_image)).mul_(contrast.view(per_image))


def _reflected(size: int, padding: int) -> Tensor:
    """Which of `size` pixels stands at each place from -padding to size + padding."""
    places = torch.arange(-padding, size + padding).abs()
    return torch.where(places < size, places, 2 * (size - 1) - places)
