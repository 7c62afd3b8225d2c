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
FULL = Augmentation(
    flip="random", crop_padding=2, cutout=8, brightness=0.5, contrast=0.25, policy="trivialaugment", erasing=0.5,
    mixup=0.4, cutmix=1.0,
)  # fmt: skip


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
        ({"crop_padding": 0}, ["shifts"]),
        ({"crop_padding": 4}, ["shifts"]),
        ({"brightness": 0.0}, ["brightness"]),
        ({"contrast": 0.0}, ["contrast"]),
        ({"flip": "none"}, ["flips"]),
        ({"flip": "alternating"}, ["flips"]),
        ({"cutout": 0}, []),  # its side is no draw
        ({"policy": "none"}, ["numbers", "values"]),
        ({"policy": "randaugment"}, ["numbers", "values"]),
        ({"erasing": 0.0}, ["erased"]),
        ({"mixup": 0.0}, ["shares", "pasted"]),  # what was blended is pasted now
        ({"cutmix": 0.0}, ["shares", "pasted"]),
        ({"mixup": 0.0, "cutmix": 0.0}, ["partners", "shares", "pasted"]),
    ],
    ids=str,
)
def test_one_augmentation_more_or_less_leaves_the_others_draws(changes: dict[str, float], changed: list[str]) -> None:
    settings = replace(FULL, **changes)  # type: ignore[arg-type]
    assert_equal(draw(FULL, epoch=1), draw(settings, epoch=1), but=tuple(changed))


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


def test_rectangles_are_erased_as_often_as_asked_within_the_image_and_of_the_paper_s_areas() -> None:
    centres, sides = draw(replace(FULL, erasing=0.25)).erased.unbind(1)
    is_erased = sides.prod(dim=1) > 0
    assert abs(is_erased.double().mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / SIZE)
    first = (centres - sides // 2)[is_erased]
    assert first.min() == 0
    assert (first + sides[is_erased]).max() == 32
    shares = sides[is_erased].prod(dim=1) / 1024
    assert 0.015 < shares.min() < 0.025  # sides are whole pixels
    assert 0.3 < shares.max() < 0.345
    assert abs(shares.mean() - 0.175) < 0.01
    heights, widths = sides[is_erased].double().unbind(1)
    assert abs((heights / widths).log().mean()) < 0.05
    assert 3 < (heights / widths).max() < 4.1
    assert not draw(replace(FULL, erasing=0.0)).erased.numel()
    assert (draw(replace(FULL, erasing=1.0)).erased[:, 1] > 0).all()


@pytest.mark.parametrize("alpha", [0.02, 0.2, 1.0, 8.0])
def test_shares_of_a_blend_are_of_the_beta_distribution(alpha: float) -> None:
    drawn = draw(replace(FULL, mixup=alpha, cutmix=0.0))
    assert drawn.partners.sort().values.tolist() == list(range(SIZE))
    assert not drawn.pasted[:, 1].any()
    shares = drawn.shares.double()
    assert shares.isfinite().all()
    assert 0 <= shares.min() <= shares.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 5 * math.sqrt(variance / SIZE)
    assert abs(shares.var() / variance - 1) < 0.05


def test_a_pasted_rectangle_takes_what_its_share_says_and_a_coin_decides_between_both() -> None:
    for mixup, expected in ((0.0, 1.0), (0.4, 0.5)):
        drawn = draw(replace(FULL, mixup=mixup))
        images = torch.zeros(SIZE, 32, 32, 1, dtype=torch.uint8)
        area = transforms.rectangles(images, drawn.pasted[:, 0], drawn.pasted[:, 1]).sum((1, 2, 3))
        is_pasted = area > 0  # of few images it has no pixel
        assert abs(is_pasted.double().mean() - expected) < 0.02
        assert torch.equal(drawn.shares[is_pasted], 1 - area[is_pasted] / 1024)
        if not mixup:
            assert (drawn.shares[~is_pasted] == 1).all()
