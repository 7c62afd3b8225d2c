"""Order, cursor and batches of TensorLoader."""

import numpy as np
import pytest
import torch

from cifar_lightning.data.loader import CIFAR10_MEAN, CIFAR10_STD, TensorLoader, epoch_order, normalise


def numbered(size: int, batch_size: int, **settings: object) -> TensorLoader:
    """A loader over `size` images whose label is their index."""
    images = torch.arange(size, dtype=torch.uint8)[:, None, None, None].expand(size, 32, 32, 3)
    return TensorLoader(images, torch.arange(size), batch_size=batch_size, **{"shuffle": True, **settings})  # type: ignore[arg-type]


def labels_of(loader: TensorLoader, batches: int | None = None) -> list[list[int]]:
    found = []
    for _, labels in loader:
        found.append(labels.tolist())
        if len(found) == batches:
            break
    return found


def test_order_is_a_permutation_and_depends_on_seed_and_epoch_only() -> None:
    order = epoch_order(100, seed=3, epoch=5)
    torch.manual_seed(12345)
    torch.rand(7)
    assert torch.equal(order, epoch_order(100, seed=3, epoch=5))
    assert sorted(order.tolist()) == list(range(100))
    different = [epoch_order(100, seed, epoch).tolist() for seed, epoch in ((3, 6), (4, 5), (5, 3))]
    assert order.tolist() not in different


def test_order_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    labels_of(numbered(20, 6))
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
    generator = np.random.default_rng(0)
    pixels = torch.from_numpy(generator.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    ((images, labels),) = TensorLoader(pixels, torch.arange(5), batch_size=5, shuffle=False)
    assert images.shape == (5, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [0, 1, 2, 3, 4]
    for channel in range(3):
        expected = (pixels[..., channel].double() / 255 - CIFAR10_MEAN[channel]) / CIFAR10_STD[channel]
        torch.testing.assert_close(images[:, channel].double(), expected, atol=1e-5, rtol=0)


def test_normalise_leaves_the_data_set_alone() -> None:
    pixels = torch.full((1, 32, 32, 3), 200, dtype=torch.uint8)
    normalise(pixels)
    assert pixels.unique().tolist() == [200]


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
def test_a_restored_loader_goes_on_where_the_first_stood(taken: int) -> None:
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


def test_the_length_does_not_depend_on_the_position() -> None:
    loader = numbered(20, 6)
    labels_of(loader, 2)
    assert len(loader) == 4


def test_batch_size_below_one() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        numbered(20, 0)
