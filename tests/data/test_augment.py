"""The pure functions of augmentation against slow references that take one image after the other."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from data.loaders import noise

from cifar_lightning.data.transforms import Augmentation, cutout, flip, jitter, pad_reflect, windows

Image = npt.NDArray[np.uint8]


def padded_by_numpy(image: Image, padding: int) -> Image:
    return np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")


@pytest.mark.parametrize("padding", [0, 1, 4, 31])
def test_padding_is_numpy_s_reflection(padding: int) -> None:
    images = noise(3)
    padded = pad_reflect(images, padding)
    assert padded.dtype == torch.uint8
    for image, got in zip(images.numpy(), padded.numpy(), strict=True):
        assert np.array_equal(got, padded_by_numpy(image, padding))


def test_padding_and_windows_of_an_image_that_is_no_square() -> None:
    images = noise(2)[:, :5, :9]
    got = windows(pad_reflect(images, 4), 4)
    assert got.shape == (2, 9, 9, 5, 9, 3)
    for image, crops in zip(images.numpy(), got.numpy(), strict=True):
        padded = padded_by_numpy(image, 4)
        for down in range(9):
            for right in range(9):
                assert np.array_equal(crops[down, right], padded[down : down + 5, right : right + 9])


def test_a_window_that_is_moved_down_and_right_by_different_amounts() -> None:
    images = noise(4)
    down, right = torch.tensor([0, 6, 3, 1]), torch.tensor([6, 0, 3, 2])
    got = windows(pad_reflect(images, 3), 3)[torch.arange(4), down, right]
    for index, image in enumerate(images.numpy()):
        rows, columns = slice(down[index], down[index] + 32), slice(right[index], right[index] + 32)
        assert np.array_equal(got[index].numpy(), padded_by_numpy(image, 3)[rows, columns])
    assert torch.equal(got[2], images[2])  # padding on all sides: the image where it was


def test_windows_are_a_view() -> None:
    padded = pad_reflect(noise(2), 2)
    assert windows(padded, 2).untyped_storage().data_ptr() == padded.untyped_storage().data_ptr()


@pytest.mark.parametrize("chosen", [[], [0], [2, 3], [0, 1, 2, 3]])
def test_flip_mirrors_left_and_right_where_it_should(chosen: list[int]) -> None:
    images = noise(4).clone()
    flips = torch.tensor([index in chosen for index in range(4)])
    got = flip(images, flips)
    assert got is images
    for index, image in enumerate(noise(4).numpy()):
        expected = np.array([row[::-1] for row in image]) if index in chosen else image
        assert np.array_equal(got[index].numpy(), expected)


# Side, centre (row, column), and the painted rows and columns: first and last.
@pytest.mark.parametrize(
    ("side", "centre", "rows", "columns"),
    [
        (1, (5, 9), (5, 5), (9, 9)),
        (3, (5, 9), (4, 6), (8, 10)),
        (4, (5, 9), (3, 6), (7, 10)),  # of an even side the centre is the upper left of the lower right quarter
        (3, (0, 0), (0, 1), (0, 1)),
        (4, (0, 0), (0, 1), (0, 1)),
        (3, (31, 31), (30, 31), (30, 31)),
        (4, (31, 31), (29, 31), (29, 31)),
        (5, (0, 31), (0, 2), (29, 31)),
        (5, (31, 0), (29, 31), (0, 2)),
        (2, (16, 0), (15, 16), (0, 0)),
        (64, (0, 0), (0, 31), (0, 31)),  # the greatest side covers the whole image from every centre
        (64, (31, 0), (0, 31), (0, 31)),
        (63, (31, 31), (0, 31), (0, 31)),
        (62, (31, 31), (0, 31), (0, 31)),
        (61, (31, 31), (1, 31), (1, 31)),
    ],
)
def test_cutout(side: int, centre: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    images = torch.ones(1, 32, 32, 3)
    got = cutout(images, torch.tensor([centre]), side, fill=0.25)
    assert got is images
    expected = np.ones((32, 32, 3))
    expected[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = 0.25
    assert np.array_equal(got[0].numpy(), expected)


def test_cutout_gives_each_image_its_own_square() -> None:
    generator = np.random.default_rng(1)
    centres = generator.integers(0, 32, (40, 2))
    got = cutout(torch.ones(40, 32, 32, 3), torch.from_numpy(centres), 6).numpy()
    for image, (row, column) in zip(got, centres, strict=True):
        for y in range(32):
            for x in range(32):
                inside = row - 3 <= y < row + 3 and column - 3 <= x < column + 3
                assert image[y, x].tolist() == [0.0 if inside else 1.0] * 3


def test_jitter_adds_brightness_and_then_scales() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 4, 4, 3, generator=generator)
    brightness, contrast = torch.tensor([0.0, 0.5, -0.5, 0.0, 1.0]), torch.tensor([1.0, 1.0, 1.0, 0.5, 2.0])
    before = images.clone()
    got = jitter(images, brightness, contrast)
    assert got is images
    for index in range(5):
        expected = (before[index].numpy() + brightness[index].item()) * contrast[index].item()
        assert np.array_equal(got[index].numpy(), expected)


def test_nothing_is_on_by_default() -> None:
    assert Augmentation() == Augmentation("none", 0, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"crop_padding": -1}, r"^data\.augment\.crop_padding must be from 0 to 31, got -1$"),
        ({"crop_padding": 32}, r"^data\.augment\.crop_padding must be from 0 to 31, got 32$"),
        ({"cutout": -1}, r"^data\.augment\.cutout must be from 0 to 64, got -1$"),
        ({"cutout": 65}, r"^data\.augment\.cutout must be from 0 to 64, got 65$"),
        ({"brightness": -0.1}, r"^data\.augment\.brightness must be from 0 to 10, got -0\.1$"),
        ({"brightness": float("nan")}, r"^data\.augment\.brightness must be from 0 to 10, got nan$"),
        ({"contrast": 1.01}, r"^data\.augment\.contrast must be from 0 to 1, got 1\.01$"),
        ({"policy": "rand"}, r"^data\.augment\.policy must be one of none, randaugment, trivialaugment, got 'rand'$"),
        ({"operations": 0}, r"^data\.augment\.operations must be from 1 to 10, got 0$"),
        ({"magnitude": 31}, r"^data\.augment\.magnitude must be from 0 to 30, got 31$"),
        ({"erasing": 1.5}, r"^data\.augment\.erasing must be from 0 to 1, got 1\.5$"),
        ({"mixup": -0.1}, r"^data\.augment\.mixup must be from 0 to 100, got -0\.1$"),
        ({"cutmix": float("inf")}, r"^data\.augment\.cutmix must be from 0 to 100, got inf$"),
    ],
    ids=str,
)
def test_values_out_of_range(settings: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Augmentation(**settings)  # type: ignore[arg-type]


def test_the_ends_of_the_ranges_are_allowed() -> None:
    Augmentation(crop_padding=31, cutout=64, brightness=10.0, contrast=1.0)
