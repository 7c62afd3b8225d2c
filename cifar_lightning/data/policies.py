"""RandAugment and TrivialAugment on many uint8 images at once, each with its own operations, on any device.

Operations and ranges are those of torchvision.transforms.v2, whose own classes do the same to all images of a call.
Here an image's pixels do not depend on the images beside it: sums are of whole numbers, and every other step rounds
each value once.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

Policy = Literal["none", "randaugment", "trivialaugment"]

STRONGEST = 30  # magnitudes are counted from 0 to here, and below 0 for the other direction
# The operations in the order of their numbers, with their strongest values under RandAugment and TrivialAugment: pixels
# sideways for each pixel down (shear), pixels, degrees, shares of the image (blends), bits, shares of the levels.
OPERATIONS = {
    "identity": (0, 0), "shear_x": (0.3, 0.99), "shear_y": (0.3, 0.99), "translate_x": (150 / 331 * 32, 32),
    "translate_y": (150 / 331 * 32, 32), "rotate": (30, 135), "brightness": (0.9, 0.99), "color": (0.9, 0.99),
    "contrast": (0.9, 0.99), "sharpness": (0.9, 0.99), "posterize": (4, 6), "solarize": (1, 1), "autocontrast": (0, 0),
    "equalize": (0, 0),
}  # fmt: skip


def draw(policy: Policy, operations: int, magnitude: int, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Numbers of operations, int64 (N, K), and their values for `apply`, float32 (N, K), for each of `size` images.

    'randaugment' (Cubuk et al., arXiv 1909.13719) draws K = `operations` for each image, all of one `magnitude`;
    'trivialaugment' (Mueller and Hutter, arXiv 2103.10158, its wide ranges) one of any magnitude.
    """
    is_trivial = policy == "trivialaugment"
    shape = (size, 1 if is_trivial else operations)
    numbers = torch.randint(len(OPERATIONS), shape, generator=generator)
    steps = torch.randint(STRONGEST + 1, shape, generator=generator) if is_trivial else torch.full(shape, magnitude)
    steps *= 2 * torch.randint(2, shape, generator=generator) - 1
    shares = [step / STRONGEST for step in range(-STRONGEST, STRONGEST + 1)]
    table = torch.tensor(
        [[value(name, share * pair[is_trivial]) for share in shares] for name, pair in OPERATIONS.items()]
    )
    return numbers, table[numbers, steps + STRONGEST]


def value(operation: str, magnitude: float) -> float:
    """What `apply` computes with, for an operation of this signed magnitude."""
    match operation:
        case "translate_x" | "translate_y":
            return int(magnitude)
        case "rotate":  # sine and cosine then need no function whose last digit hangs on the length of a tensor
            return math.tan(math.radians(magnitude) / 2)
        case "posterize":  # the bits that stay
            return 256 - 2 ** (8 - round(8 - abs(magnitude)))
        case "solarize":  # the level from which on it is inverted
            return 255 * (1 - abs(magnitude))
    return magnitude


def apply(images: Tensor, numbers: Tensor, values: Tensor) -> Tensor:
    """Images uint8 (N, H, W, 3) after what `draw` has drawn for them. On a CPU `images` itself is changed."""
    for kinds, own_values in zip(numbers.unbind(1), values.unbind(1), strict=True):
        for first, last, operation in _STEPS:
            chosen = (kinds >= first) & (kinds <= last)
            if images.device.type != "cpu":  # where to know how many they are would be to wait for the device
                changed = operation(images, own_values, kinds)
                images = torch.where(chosen[:, None, None, None], changed, images)
            elif len(own := torch.nonzero(chosen).flatten()):
                images[own] = operation(images[own], own_values[own], kinds[own])
    return images


def _moved(images: Tensor, values: Tensor, kinds: Tensor) -> Tensor:
    """Sheared about the upper left corner, moved, or turned about the centre; from the nearest pixel, black outside."""
    count, side = images.shape[:2]
    each = [torch.where(kinds == number, values, 0).view(-1, 1, 1) for number in range(1, 6)]
    shear_x, shear_y, right, down, turn = each
    cosine, sine = (1 - turn * turn) / (1 + turn * turn), 2 * turn / (1 + turn * turn)
    centre = (side - 1) / 2
    y, x = (
        (torch.arange(side, device=images.device) - centre).view(-1, 1),
        torch.arange(side, device=images.device) - centre,
    )
    from_x = (cosine * x + (shear_x - sine) * y + (centre + side / 2 * shear_x - right)).round()
    from_y = ((shear_y + sine) * x + cosine * y + (centre + side / 2 * shear_y - down)).round()
    is_inside = (from_x >= 0) & (from_x < side) & (from_y >= 0) & (from_y < side)
    places = torch.where(is_inside, from_y * side + from_x, 0).long().view(count, -1, 1).expand(-1, -1, 3)
    return images.view(count, -1, 3).gather(1, places).view(images.shape) * is_inside[..., None]


def _blend(images: Tensor, extreme: Tensor, values: Tensor) -> Tensor:
    """Away from the `extreme` by a share, or towards it where that is negative."""
    factors = 1 + values.view(-1, 1, 1, 1)
    return (images.float() - extreme).mul_(factors).add_(extreme).clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.int().split(1, dim=3)
    return (19595 * red + 38470 * green + 7471 * blue + 2**15 >> 16).float()  # Pillow's weights, of 2**16


def _by_torchvision(images: Tensor, function: Callable[..., Tensor], *arguments: float) -> Tensor:
    return function(images.permute(0, 3, 1, 2), *arguments).permute(0, 2, 3, 1)


# Which numbers, from the first to the last, and what is done to (images, values, numbers).
_STEPS: tuple[tuple[int, int, Callable[[Tensor, Tensor, Tensor], Tensor]], ...] = (
    (1, 5, _moved),
    (6, 6, lambda images, values, _: _blend(images, torch.zeros_like(images[..., :1]), values)),
    (7, 7, lambda images, values, _: _blend(images, _grey(images), values)),
    (8, 8, lambda images, values, _: _blend(images, _grey(images).mean((1, 2), keepdim=True), values)),
    (9, 9, lambda images, values, _: _blend(images, _by_torchvision(images, functional.adjust_sharpness, 0.0), values)),
    (10, 10, lambda images, values, _: images & values.to(torch.uint8).view(-1, 1, 1, 1)),
    (11, 11, lambda images, values, _: torch.where(images >= values.view(-1, 1, 1, 1), 255 - images, images)),
    (12, 12, lambda images, values, _: _by_torchvision(images, functional.autocontrast)),
    (13, 13, lambda images, values, _: _by_torchvision(images, functional.equalize)),
)
