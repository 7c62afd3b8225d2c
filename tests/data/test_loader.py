"""Batches, cursor and shares of TensorLoader; see test_augmented_loader.py for what is done to the images."""

from itertools import chain

import pytest
import torch
from data.loaders import augmented, labels_of, noise, numbered

from cifar_lightning.data import loader as loader_room
from cifar_lightning.data.loader import TensorLoader
from cifar_lightning.data.sampler import dropped_images, epoch_order
from cifar_lightning.data.transforms import CIFAR10_MEAN, CIFAR10_STD, Normalize


def test_iterating_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    labels_of(numbered(20, 6))
    labels_of(augmented(20, 6))
    assert torch.equal(before, torch.get_rng_state())


def test_every_image_once_an_epoch_with_the_smaller_last_batch() -> None:
    batches = labels_of(numbered(20, 6))
    assert [len(batch) for batch in batches] == [6, 6, 6, 2]
    assert sorted(label for batch in batches for label in batch) == list(range(20))


def test_without_shuffle_in_order_in_every_epoch() -> None:
    loader = numbered(10, 4, shuffle=False)
    assert labels_of(loader) == labels_of(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_new_order_each_epoch() -> None:
    loader = numbered(20, 20)
    (first,), (second,) = labels_of(loader), labels_of(loader)
    assert first == epoch_order(20, 0, 0).tolist()
    assert second == epoch_order(20, 0, 1).tolist()


def test_batches_are_normalised_and_channels_last() -> None:
    pixels = noise(5)
    ((images, labels),) = TensorLoader(pixels, torch.arange(5), batch_size=5, shuffle=False)
    assert images.shape == (5, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [0, 1, 2, 3, 4]
    for channel in range(3):
        expected = (pixels[..., channel].double() / 255 - CIFAR10_MEAN[channel]) / CIFAR10_STD[channel]
        torch.testing.assert_close(images[:, channel].double(), expected, atol=1e-5, rtol=0)


def test_normalize_gives_the_bits_of_one_product_and_one_sum_and_leaves_the_data_set_alone() -> None:
    """Published runs were trained on these values: another order of the operations would change them."""
    pixels = torch.arange(256, dtype=torch.uint8).repeat(12).view(1, 32, 32, 3)  # each level in each channel
    before, mean, std = pixels.clone(), torch.tensor(CIFAR10_MEAN), torch.tensor(CIFAR10_STD)
    assert torch.equal(Normalize()(pixels), pixels.float() * (1 / (255 * std)) + (-mean / std))
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("chunk", [1, 12, 1024])  # a batch at a time, two, all
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
def test_a_restored_loader_goes_on_where_the_first_stood(
    taken: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_room, "CHUNK", chunk)
    whole = numbered(20, 6, seed=7)
    expected = labels_of(whole) + labels_of(whole)
    first = numbered(20, 6, seed=7)
    got = labels_of(first, taken) if taken else []
    second = numbered(20, 6, seed=7)
    second.load_state_dict(first.state_dict())
    got += labels_of(second)
    if len(got) <= 4:
        got += labels_of(second)
    assert got[:8] == expected


def test_the_state_counts_a_batch_before_it_is_handed_over() -> None:
    loader = numbered(20, 6)
    iterator = iter(loader)
    next(iterator)
    assert loader.state_dict() == {"epoch": 0, "next_batch": 1}
    for _ in range(3):
        next(iterator)
    assert loader.state_dict() == {"epoch": 1, "next_batch": 0}  # the end is the next epoch's beginning


@pytest.mark.parametrize("chunk", [1, 12, 1024])
def test_a_state_that_is_asked_for_at_the_end_does_not_begin_the_epoch_again(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of an epoch's end is written while the generator waits behind the last batch."""
    monkeypatch.setattr(loader_room, "CHUNK", chunk)
    loader = numbered(20, 6)
    iterator = iter(loader)
    for number in range(1, 5):
        next(iterator)
        assert loader.state_dict() == {"epoch": number // 4, "next_batch": number % 4}
        assert loader.state_dict() == {"epoch": number // 4, "next_batch": number % 4}  # asking moves nothing
    assert list(iterator) == []
    assert loader.state_dict() == {"epoch": 1, "next_batch": 0}
    assert labels_of(loader) == [batch.tolist() for batch in epoch_order(20, 0, 1).split(6)]


def test_set_epoch_after_iter_is_heeded() -> None:
    loader = numbered(20, 20)
    iterator = iter(loader)  # on a resume Lightning calls iter() first
    loader.set_epoch(4)
    assert next(iterator)[1].tolist() == epoch_order(20, 0, 4).tolist()


def test_set_epoch_drops_the_rest_of_a_cut_epoch_and_keeps_the_position_of_the_current() -> None:
    loader = numbered(20, 6)
    labels_of(loader, 2)
    loader.set_epoch(0)
    assert loader.state_dict() == {"epoch": 0, "next_batch": 2}
    loader.set_epoch(1)
    assert loader.state_dict() == {"epoch": 1, "next_batch": 0}


def test_an_abandoned_epoch_gives_way_to_the_one_that_is_named() -> None:
    """limit_train_batches leaves the iterator where it is and names the next epoch."""
    loader = numbered(20, 6)
    abandoned = iter(loader)
    for epoch in range(3):
        loader.set_epoch(epoch)
        expected = [batch.tolist() for batch in epoch_order(20, 0, epoch).split(6)]
        assert labels_of(loader, 2) == expected[:2]
    loader.set_epoch(3)
    assert labels_of(loader) == [batch.tolist() for batch in epoch_order(20, 0, 3).split(6)]
    del abandoned


def test_the_epoch_may_be_named_again_before_each_of_its_parts() -> None:
    loader = numbered(20, 6)
    first = labels_of(loader, 2)
    loader.set_epoch(0)
    assert first + labels_of(loader) == [batch.tolist() for batch in epoch_order(20, 0, 0).split(6)]


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_an_evaluation_always_begins_at_the_first_batch(taken: int) -> None:
    """Lightning stops validations early, at its sanity check and by limit_val_batches, and then goes on in the same
    epoch."""
    loader = numbered(10, 4, shuffle=False)
    whole = labels_of(loader)
    loader.set_epoch(0)
    for _ in range(2):
        assert labels_of(loader, taken) == whole[:taken]
        loader.set_epoch(0)
        assert labels_of(loader) == whole


def test_the_length_does_not_depend_on_the_position() -> None:
    loader = numbered(20, 6)
    assert len(loader) == 4
    labels_of(loader, 2)
    assert len(loader) == 4
    restored = numbered(20, 6)
    restored.load_state_dict({"epoch": 3, "next_batch": 2})
    assert len(restored) == 4
    assert len(labels_of(restored)) == 2


# (size, batch_size, world_size, dropped)
@pytest.mark.parametrize(
    ("size", "batch_size", "world_size", "dropped"),
    [(20, 6, 1, 0), (20, 6, 2, 0), (20, 6, 3, 2), (23, 8, 4, 3), (24, 6, 6, 0), (5, 8, 2, 1), (3, 4, 4, 3)],
)
def test_ranks_train_in_equal_steps_on_parts_of_the_same_batches(
    size: int, batch_size: int, world_size: int, dropped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_room, "CHUNK", batch_size // world_size * 2)
    loaders = [numbered(size, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    for epoch in range(2):
        for loader in loaders:
            loader.set_epoch(epoch)
        per_rank = [labels_of(loader) for loader in loaders]
        assert {len(batches) for batches in per_rank} == {len(loader) for loader in loaders}
        together = [sorted(chain(*parts)) for parts in zip(*per_rank, strict=True)]
        order = epoch_order(size, 0, epoch)[: size - dropped]
        assert together == [sorted(batch.tolist()) for batch in order.split(batch_size) if len(batch)]
    assert dropped_images(size, batch_size, world_size) == dropped


@pytest.mark.parametrize(("size", "batch_size", "world_size"), [(20, 6, 1), (20, 6, 3), (23, 4, 4), (3, 2, 5)])
def test_ranks_score_every_image_once_in_order(size: int, batch_size: int, world_size: int) -> None:
    """A batch size of evaluation is one rank's own and needs no common factor with the number of ranks."""
    loaders = [
        numbered(size, batch_size, shuffle=False, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    batches = [labels_of(loader) for loader in loaders]
    assert list(chain(*chain(*batches))) == list(range(size))
    assert [len(found) for found in batches] == [len(loader) for loader in loaders]
    assert all(len(batch) == batch_size for found in batches for batch in found[:-1])


def test_changing_a_batch_in_place_changes_no_other_and_not_the_data() -> None:
    images, labels = noise(12).clone(), torch.arange(12)
    expected = [
        (batch.clone(), own.clone()) for batch, own in TensorLoader(images, labels, batch_size=4, shuffle=False)
    ]
    loader = TensorLoader(images, labels, batch_size=4, shuffle=False)
    for _ in range(2):
        for (batch, own), (pixels, numbers) in zip(loader, expected, strict=True):
            assert torch.equal(batch, pixels)
            assert torch.equal(own, numbers)
            batch.zero_()
            own.fill_(-1)
    assert torch.equal(images, noise(12))
    assert labels.tolist() == list(range(12))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 0, "shuffle": False}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 6, "world_size": 4}, "batch_size 6 cannot be shared out evenly among 4 processes"),
        ({"batch_size": 1, "world_size": 2}, "batch_size 1 cannot be shared out evenly among 2 processes"),
    ],
    ids=str,
)
def test_values_out_of_range(settings: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        numbered(20, **settings)
