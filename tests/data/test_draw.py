"""The draws of augmentation: their ranges, their evenness, and what they depend on."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cifar_lightning.data import transforms
from cifar_lightning.data.sampler import generator_for
from cifar_lightning.data.transforms import Augmentation, Draws

SIZE = 20_000
FULL = Augmentation(flip="random", crop_padding=2, cutout=8, brightness=0.5, contrast=0.25)


def draw(augmentation: Augmentation, seed: int = 0, epoch: int = 0, size: int = SIZE) -> Draws:
    return transforms.draw(augmentation, size, epoch, generator_for(seed, 0, 1), generator_for(seed, epoch, 1))


def assert_uniform(values: Tensor, low: int, high: int) -> None:
    """Whole numbers from `low` to `high`, all of them, by a chi-square of at most 5 deviations above its mean."""
    assert values.min() == low
    assert values.max() == high
    counts = torch.bincount(values - low).double()
    expected = len(values) / len(counts)
    freedom = len(counts) - 1
    assert ((counts - expected) ** 2 / expected).sum() < freedom + 5 * math.sqrt(2 * freedom)


def cells(values: Tensor, least: float, most: float) -> Tensor:
    """Which of 50 equal parts from `least` to `most` each value is in."""
    return ((values.double() - least) / (most - least) * 50).long()


@pytest.mark.parametrize("padding", [0, 1, 2, 31])
def test_shifts_reach_both_ends_evenly_and_down_apart_from_right(padding: int) -> None:
    shifts = draw(replace(FULL, crop_padding=padding)).shifts
    assert shifts.dtype == torch.int64
    down, right = shifts.unbind(1)
    if padding == 0:
        assert not shifts.any()
        return
    assert_uniform(down, -padding, padding)
    assert_uniform(right, -padding, padding)
    if padding == 2:
        assert_uniform((down + 2) * 5 + right + 2, 0, 24)  # every pair as often


def test_squares_are_centred_on_every_pixel_evenly() -> None:
    rows, columns = draw(FULL).cutouts.unbind(1)
    assert_uniform(rows, 0, 31)
    assert_uniform(columns, 0, 31)
    assert_uniform(rows // 4 * 8 + columns // 4, 0, 63)


def test_brightness_and_contrast_fill_their_ranges() -> None:
    drawn = draw(FULL)
    assert drawn.brightness.dtype == drawn.contrast.dtype == torch.float32
    assert drawn.brightness.abs().max() <= 0.5
    assert (drawn.contrast - 1).abs().max() <= 0.25
    assert_uniform(cells(drawn.brightness, -0.5, 0.5), 0, 49)
    assert_uniform(cells(drawn.contrast, 0.75, 1.25), 0, 49)


@pytest.mark.parametrize("flip", ["random", "alternating"])
def test_half_of_the_images_are_flipped(flip: str) -> None:
    for epoch in (0, 1, 2):
        assert_uniform(draw(replace(FULL, flip=flip), epoch=epoch).flips.long(), 0, 1)


def test_the_greatest_random_number_does_not_move_an_image_out_of_its_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product with a float just below 1 could round up to the next whole number."""
    greatest = 1 - 2**-24
    assert torch.tensor(greatest) < 1

    def rand(size: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.full(size if isinstance(size, tuple) else (size,), greatest)

    monkeypatch.setattr(torch, "rand", rand)
    for padding in range(32):
        shifts = draw(replace(FULL, crop_padding=padding), size=3).shifts
        assert shifts.unique().tolist() == [padding]


def assert_equal(one: Draws, other: Draws, but: tuple[str, ...] = ()) -> None:
    different = {name for name in Draws._fields if not torch.equal(getattr(one, name), getattr(other, name))}
    assert different == set(but)


@pytest.mark.parametrize("flip", ["random", "alternating"])
def test_draws_depend_on_seed_and_epoch_only(flip: str) -> None:
    settings = replace(FULL, flip=flip)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw(settings, seed=3, epoch=5)
    assert torch.equal(before, torch.get_rng_state())
    draw(settings, seed=3, epoch=4)
    torch.manual_seed(2)
    assert_equal(first, draw(settings, seed=3, epoch=5))
    for seed, epoch in ((3, 6), (4, 5), (5, 3)):
        assert_equal(first, draw(settings, seed, epoch), but=Draws._fields)


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"crop_padding": 0}, "shifts"),
        ({"crop_padding": 4}, "shifts"),
        ({"brightness": 0.0}, "brightness"),
        ({"contrast": 0.0}, "contrast"),
        ({"flip": "none"}, "flips"),
        ({"flip": "alternating"}, "flips"),
        ({"cutout": 0}, None),  # its side is no draw
    ],
    ids=str,
)
def test_one_augmentation_more_or_less_leaves_the_others_draws(changes: dict[str, float], changed: str | None) -> None:
    settings = replace(FULL, **changes)  # type: ignore[arg-type]
    assert_equal(draw(FULL, epoch=1), draw(settings, epoch=1), but=(changed,) if changed else ())


def test_what_is_off_does_nothing() -> None:
    drawn = draw(Augmentation())
    assert not drawn.flips.any()
    assert not drawn.shifts.any()
    assert not drawn.brightness.any()
    assert drawn.contrast.unique().tolist() == [1.0]


def test_alternating_begins_with_a_coin_and_then_shows_either_form_in_turn() -> None:
    settings = replace(FULL, flip="alternating")
    flips = [draw(settings, epoch=epoch).flips for epoch in range(5)]
    assert torch.equal(flips[0], draw(FULL, epoch=0).flips)
    for epoch in range(4):
        assert torch.equal(flips[epoch + 1], ~flips[epoch])
    assert not torch.equal(flips[0], draw(settings, seed=1).flips)


def test_random_throws_a_coin_of_its_own_in_each_epoch() -> None:
    flips = [draw(FULL, epoch=epoch).flips for epoch in range(4)]
    for epoch in range(3):
        agreeing = (flips[epoch] == flips[epoch + 1]).double().mean().item()
        assert agreeing == pytest.approx(0.5, abs=0.02)  # 5 deviations of 20,000 coins
