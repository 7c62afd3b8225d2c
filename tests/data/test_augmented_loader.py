"""TensorLoader with augmentation: the same pixels for an image and epoch, however the epoch is cut up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.loaders import ALL_AUGMENTATIONS, augmented, noise, pixels_by_image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cifar_lightning.data import loader as loader_room
from cifar_lightning.data import transforms
from cifar_lightning.data.loader import TensorLoader
from cifar_lightning.data.sampler import dropped_images, epoch_order, generator_for, training_share
from cifar_lightning.data.transforms import CIFAR10_MEAN, CIFAR10_STD, Augmentation

SIZE = 50
# All together and each by itself.
AUGMENTATIONS = [
    ALL_AUGMENTATIONS,
    Augmentation(flip="random"),
    Augmentation(flip="alternating"),
    Augmentation(crop_padding=4),
    Augmentation(cutout=8),
    Augmentation(brightness=0.5),
    Augmentation(contrast=0.5),
    Augmentation(erasing=0.5),
]
# Whose pixels other tests check.
OTHERS = [
    replace(ALL_AUGMENTATIONS, policy="randaugment", magnitude=20),
    Augmentation(policy="trivialaugment"),
    replace(ALL_AUGMENTATIONS, policy="trivialaugment", mixup=0.5, cutmix=1.0),
    Augmentation(mixup=0.5),
    Augmentation(cutmix=1.0),
    Augmentation(flip="random", sizes=[16, 20, 28, 24, 9]),
]


def assert_same_pixels(one: dict[int, Tensor], other: dict[int, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert len(one) > 0
    for label, image in one.items():
        assert torch.equal(image, other[label]), label


def at_epoch(loader: TensorLoader, epoch: int) -> TensorLoader:
    loader.set_epoch(epoch)
    return loader


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("options", AUGMENTATIONS, ids=str)
def test_every_image_is_what_numpy_makes_of_its_draw(options: Augmentation, epoch: int) -> None:
    draws = transforms.draw(options, SIZE, epoch, generator_for(4, 0, 1), generator_for(4, epoch, 1))
    shown = pixels_by_image(at_epoch(augmented(SIZE, 8, seed=4, augmentation=options), epoch))
    assert sorted(shown) == list(range(SIZE))
    padding, side = options.crop_padding, options.cutout
    for label, got in shown.items():
        padded = np.pad(noise(SIZE)[label].numpy(), ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        top, left = (padding + draws.shifts[label]).tolist()
        image = padded[top : top + 32, left : left + 32]
        image = image[:, ::-1] if draws.flips[label] else image
        pixels = (image / 255 - np.array(CIFAR10_MEAN)) / np.array(CIFAR10_STD)
        pixels = (pixels + draws.brightness[label].item()) * draws.contrast[label].item()
        row, column = (draws.cutouts[label] - side // 2).tolist()
        pixels[max(row, 0) : max(row + side, 0), max(column, 0) : max(column + side, 0)] = 0
        if options.erasing:
            (row, column), (height, width) = draws.erased[label].tolist()
            row, column = row - height // 2, column - width // 2
            pixels[row : row + height, column : column + width] = 0
        np.testing.assert_allclose(got.permute(1, 2, 0).numpy(), pixels, atol=1e-5)


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize(
    ("batch_size", "world_size", "chunk"),
    [(8, 1, 1), (8, 1, 24), (7, 1, 10), (1, 1, 4), (SIZE, 1, 1024), (10, 2, 1024), (10, 5, 4), (64, 4, 7)],
)
def test_the_pixels_depend_on_seed_epoch_and_image_only(
    batch_size: int, world_size: int, chunk: int, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pixels_by_image(at_epoch(augmented(SIZE, 16), epoch))
    monkeypatch.setattr(loader_room, "CHUNK", chunk)
    ranks = [augmented(SIZE, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    shown = pixels_by_image(*[at_epoch(loader, epoch) for loader in ranks])
    assert len(shown) == SIZE - dropped_images(SIZE, batch_size, world_size)
    assert_same_pixels(shown, {label: expected[label] for label in shown})


def test_another_epoch_or_seed_gives_other_pixels() -> None:
    loader = augmented(SIZE, 16)
    first, second = pixels_by_image(loader), pixels_by_image(loader)
    other = pixels_by_image(augmented(SIZE, 16, seed=1))
    for label in range(SIZE):
        assert not torch.equal(first[label], second[label])
        assert not torch.equal(first[label], other[label])
    assert_same_pixels(second, pixels_by_image(at_epoch(augmented(SIZE, 16), 1)))


# 13 batches an epoch in chunks of 3: cuts at a chunk's beginning, within it and at its end, and in the second epoch.
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4, 11, 12, 13, 14, 17])
def test_a_loader_that_is_cut_within_a_chunk_and_restored_gives_the_same_batches(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_room, "CHUNK", 12)
    whole = augmented(SIZE, 4)
    expected = [*whole, *whole]
    first = augmented(SIZE, 4)
    got = []
    while len(got) < taken:
        for batch in first:
            got.append(batch)
            if len(got) == taken:
                break
    second = augmented(SIZE, 4)
    second.load_state_dict(first.state_dict())
    while len(got) < len(expected):
        got += list(second)
    for (images, labels), (expected_images, expected_labels) in zip(got, expected, strict=True):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)


def test_a_state_that_is_asked_for_within_a_chunk_disturbs_nothing() -> None:
    expected = [images for images, _ in augmented(SIZE, 4)]
    loader = augmented(SIZE, 4)
    for (images, _), expected_images in zip(loader, expected, strict=True):
        loader.state_dict()
        assert torch.equal(images, expected_images)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
def test_data_and_other_batches_stay_as_they_are(augmentation: Augmentation) -> None:
    images, labels = noise(SIZE).clone(), torch.arange(SIZE)
    settings = {"batch_size": 8, "shuffle": True, "augmentation": augmentation}
    expected = pixels_by_image(TensorLoader(images, labels, **settings))  # type: ignore[arg-type]
    loader = TensorLoader(images, labels, **settings)  # type: ignore[arg-type]
    for batch, own in loader:
        for image, label in zip(batch, own.tolist(), strict=True):
            assert torch.equal(image, expected[label])
        batch.zero_()  # as a training step may: no other batch sees it
        own.fill_(-1)
    loader.load_state_dict({"epoch": 0, "next_batch": 0})
    assert_same_pixels(pixels_by_image(loader), expected)
    assert torch.equal(images, noise(SIZE))
    assert labels.tolist() == list(range(SIZE))


def test_augmented_batches_have_the_form_of_the_others() -> None:
    for images, labels in augmented(SIZE, 8):
        assert images.dtype == torch.float32
        assert images.shape[1:] == (3, 32, 32)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.dtype == torch.int64


def test_without_augmentation_images_are_the_same_in_every_epoch() -> None:
    loader = augmented(SIZE, 8, augmentation=Augmentation())
    plain = pixels_by_image(augmented(SIZE, 50, shuffle=False, augmentation=Augmentation()))
    for _ in range(2):
        assert_same_pixels(pixels_by_image(loader), plain)


def test_alternating_shows_every_image_in_both_forms_within_two_epochs() -> None:
    loader = augmented(SIZE, 8, augmentation=Augmentation(flip="alternating"))
    plain = pixels_by_image(augmented(SIZE, 8, shuffle=False, augmentation=Augmentation()))
    epochs = [pixels_by_image(loader) for _ in range(3)]
    coin = pixels_by_image(augmented(SIZE, 8, augmentation=Augmentation(flip="random")))
    assert_same_pixels(epochs[0], coin)
    assert_same_pixels(epochs[2], epochs[0])
    mirrored = 0
    for label, image in plain.items():
        forms = [image, image.flip(2)]
        as_it_is = torch.equal(epochs[0][label], image)
        assert torch.equal(epochs[0][label], forms[not as_it_is])
        assert torch.equal(epochs[1][label], forms[as_it_is])
        mirrored += not as_it_is
    assert 10 < mirrored < 40


def batches_by_image(*loaders: TensorLoader) -> dict[int, tuple[Tensor, Tensor]]:
    """What an epoch of all `loaders` together shows, also of mixed images: number to pixels and label, each once."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for loader in loaders:
        order = epoch_order(SIZE, loader.seed, loader.state_dict()["epoch"])
        own = training_share(order, loader.batch_size, loader.rank, loader.world_size).tolist()
        batches = list(loader)
        pixels, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert len(own) == len(pixels)
        for number, *shown in zip(own, pixels, labels, strict=True):
            assert number not in found
            found[number] = tuple(shown)
    return found


def mixing(batch_size: int, augmentation: Augmentation, **settings: object) -> TensorLoader:
    """A loader with as many classes as images."""
    return augmented(SIZE, batch_size, augmentation=augmentation, num_classes=SIZE, **settings)


@pytest.mark.parametrize(
    ("batch_size", "world_size", "chunk"), [(8, 1, 1), (7, 1, 10), (1, 1, 4), (10, 2, 1024), (10, 5, 4)]
)
@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_policies_and_mixtures_depend_on_seed_epoch_and_image_only(
    options: Augmentation, batch_size: int, world_size: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = batches_by_image(at_epoch(mixing(16, options), 3))
    monkeypatch.setattr(loader_room, "CHUNK", chunk)
    ranks = [mixing(batch_size, options, rank=rank, world_size=world_size) for rank in range(world_size)]
    shown = batches_by_image(*[at_epoch(loader, 3) for loader in ranks])
    assert len(shown) == SIZE - dropped_images(SIZE, batch_size, world_size)
    for number, (pixels, label) in shown.items():
        assert torch.equal(pixels, expected[number][0])
        assert torch.equal(label, expected[number][1])
    other = batches_by_image(at_epoch(mixing(16, options), 4))
    assert sum(torch.equal(other[number][0], pixels) for number, (pixels, _) in expected.items()) < SIZE / 3


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_a_cut_epoch_of_policies_and_mixtures_goes_on_with_the_same_batches(
    options: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_room, "CHUNK", 12)
    expected = list(mixing(4, options))
    for taken in (1, 4, 11):
        first, second = mixing(4, options), mixing(4, options)
        for _, _ in zip(range(taken), first, strict=False):
            pass
        second.load_state_dict({"epoch": 0, "next_batch": taken})
        for (images, labels), (expected_images, expected_labels) in zip(second, expected[taken:], strict=True):
            assert torch.equal(images, expected_images)
            assert torch.equal(labels, expected_labels)


@pytest.mark.parametrize("options", OTHERS[2:5], ids=str)
def test_a_mixture_is_of_two_augmented_images_and_of_their_labels(options: Augmentation) -> None:
    draws = transforms.draw(options, SIZE, 2, generator_for(0, 0, 1), generator_for(0, 2, 1))
    plain = batches_by_image(at_epoch(mixing(16, replace(options, mixup=0.0, cutmix=0.0)), 2))
    shown = batches_by_image(at_epoch(mixing(16, options), 2))
    assert len(shown) == SIZE
    kinds = set()
    for number, (pixels, label) in shown.items():
        partner, share = int(draws.partners[number]), draws.shares[number].item()
        (row, column), (height, width) = draws.pasted[number].tolist()
        own, other = (plain[which][0].double().numpy() for which in (number, partner))
        if height:
            kinds.add("pasted")
            mixed = own.copy()
            place = [
                slice(max(at - size // 2, 0), at - size // 2 + size) for at, size in ((row, height), (column, width))
            ]
            mixed[:, place[0], place[1]] = other[:, place[0], place[1]]
            assert (mixed[:, place[0], place[1]].size / 3072) == pytest.approx(1 - share)
        else:
            kinds.add("blended")
            mixed = share * own + (1 - share) * other
        np.testing.assert_allclose(pixels.numpy(), mixed, atol=1e-5)
        expected = np.zeros(SIZE)
        expected[number] += share
        expected[partner] += 1 - share
        np.testing.assert_allclose(label.numpy(), expected, atol=1e-6)
    assert kinds >= {name for name, on in (("blended", options.mixup), ("pasted", options.cutmix)) if on}
    images, labels = next(iter(mixing(16, options)))
    assert (images.dtype, labels.dtype, labels.shape) == (torch.float32, torch.float32, (16, SIZE))
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_images_are_small_in_the_first_epochs() -> None:
    loader = augmented(SIZE, 16, augmentation=Augmentation(sizes=[16, 23]))
    normal = pixels_by_image(augmented(SIZE, 16, augmentation=Augmentation()))
    for side in (16, 23):
        for label, image in pixels_by_image(loader).items():
            expected = TF.resize(normal[label], [side, side], antialias=True)
            torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)
            assert image[None].is_contiguous(memory_format=torch.channels_last)
    assert_same_pixels(pixels_by_image(loader), normal)
