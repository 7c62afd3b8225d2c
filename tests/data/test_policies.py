"""RandAugment and TrivialAugment of many images against torchvision's functions, one image after the other."""

import math

import pytest
import torch
from data.loaders import noise
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cifar_lightning.data import policies
from cifar_lightning.data.sampler import generator_for

NAMES = list(policies.OPERATIONS)


def by_torchvision(name: str, image: Tensor, magnitude: float) -> Tensor:
    """What torchvision makes of one image (3, 32, 32)."""
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    slope = math.degrees(math.atan(magnitude))
    match name:
        case "identity":
            return image
        case "shear_x":
            return functional.affine(image, **{**still, "shear": [slope, 0.0]}, center=[0, 0])
        case "shear_y":
            return functional.affine(image, **{**still, "shear": [0.0, slope]}, center=[0, 0])
        case "translate_x":
            return functional.affine(image, **{**still, "translate": [int(magnitude), 0]})
        case "translate_y":
            return functional.affine(image, **{**still, "translate": [0, int(magnitude)]})
        case "rotate":
            return functional.rotate(image, magnitude)
        case "brightness":
            return functional.adjust_brightness(image, 1 + magnitude)
        case "color":
            return functional.adjust_saturation(image, 1 + magnitude)
        case "contrast":
            return functional.adjust_contrast(image, 1 + magnitude)
        case "sharpness":
            return functional.adjust_sharpness(image, 1 + magnitude)
        case "posterize":
            return functional.posterize(image, round(8 - abs(magnitude)))
        case "solarize":
            return functional.solarize(image, 255 * (1 - abs(magnitude)))
        case "autocontrast":
            return functional.autocontrast(image)
    return functional.equalize(image)


def pictures(count: int) -> Tensor:
    """Noise of few levels and slow gradients in turn, uint8 (N, 32, 32, 3): equalizing changes it."""
    images = noise(count).clone() // 3 + 40
    images[::2] += torch.arange(32, dtype=torch.uint8)[:, None, None] * 2
    return images


@pytest.mark.parametrize("strongest", [0, 1], ids=["randaugment", "trivialaugment"])
@pytest.mark.parametrize("name", NAMES)
def test_each_operation_is_torchvision_s(name: str, strongest: int) -> None:
    shares = [-1.0, -17 / 30, -0.1, 0.0, 0.3, 0.5, 1.0]
    magnitudes = [share * policies.OPERATIONS[name][strongest] for share in shares]
    images = pictures(len(shares))
    numbers = torch.full((len(shares), 1), NAMES.index(name))
    values = torch.tensor([[policies.value(name, magnitude)] for magnitude in magnitudes])
    got = policies.apply(images.clone(), numbers, values)
    assert got.dtype == torch.uint8
    for image, magnitude, changed in zip(images, magnitudes, got, strict=True):
        expected = by_torchvision(name, image.permute(2, 0, 1), magnitude).permute(1, 2, 0)
        difference = (changed.int() - expected.int()).abs()
        if name in ("shear_x", "shear_y", "rotate"):  # a pixel halfway between two may come from either
            assert (difference.amax(dim=2) > 0).double().mean() <= 0.03
        else:  # a blend rounds in another order
            assert difference.max() <= (2 if name in ("color", "contrast") else 1)


def test_operations_and_ranges_are_torchvision_s() -> None:
    for index, theirs in enumerate((v2.RandAugment(), v2.TrivialAugmentWide())):
        space = theirs._AUGMENTATION_SPACE
        assert [name.lower() for name in space] == [name.replace("_", "") for name in NAMES]
        for name, (levels, _) in zip(NAMES, space.values(), strict=True):
            values = levels(policies.STRONGEST + 1, 32, 32)
            if values is not None:
                first, last = float(values[0]), float(values[-1])
                if name in ("posterize", "solarize"):  # they count downwards
                    assert last == (8 if name == "posterize" else 1) - policies.OPERATIONS[name][index]
                    assert first == (8 if name == "posterize" else 1)
                else:
                    assert (first, last) == pytest.approx((0, policies.OPERATIONS[name][index]))


def test_randaugment_draws_every_operation_with_one_magnitude() -> None:
    numbers, values = policies.draw("randaugment", 3, 30, 6000, generator_for(0, 1))
    assert numbers.shape == values.shape == (6000, 3)
    counts = torch.bincount(numbers.flatten(), minlength=len(NAMES)).double()
    expected = numbers.numel() / len(NAMES)
    assert ((counts - expected) ** 2 / expected).sum() < 13 + 5 * math.sqrt(26)
    for number, name in enumerate(NAMES):
        most = policies.OPERATIONS[name][0]
        allowed = [policies.value(name, sign * most) for sign in (-1, 1)]
        assert values[numbers == number].unique().tolist() == pytest.approx(sorted(set(allowed)))


def test_trivialaugment_draws_one_operation_of_any_magnitude() -> None:
    numbers, values = policies.draw("trivialaugment", 9, 9, 60_000, generator_for(0, 1))
    assert numbers.shape == (60_000, 1)
    assert len(values[numbers == NAMES.index("brightness")].unique()) == 61


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment"])
def test_an_image_does_not_depend_on_those_beside_it(policy: policies.Policy) -> None:
    images = pictures(200)
    numbers, values = policies.draw(policy, 2, 20, len(images), generator_for(3))
    expected = policies.apply(images.clone(), numbers, values)
    assert (expected != images).any(dim=(1, 2, 3)).double().mean() > 0.7
    for size in (1, 7, 64):
        parts = zip(images.clone().split(size), numbers.split(size), values.split(size), strict=True)
        assert torch.equal(torch.cat([policies.apply(*part) for part in parts]), expected)


def test_a_gpu_changes_the_same_images() -> None:
    """Off the CPU all operations run on all images, and each image takes its own: the shape is the same."""
    images = torch.zeros(5, 32, 32, 3, dtype=torch.uint8, device="meta")
    numbers, values = (drawn.to("meta") for drawn in policies.draw("randaugment", 2, 9, 5, generator_for(0)))
    got = policies.apply(images, numbers, values)
    assert (got.shape, got.dtype) == (images.shape, torch.uint8)
