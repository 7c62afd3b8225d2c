"""Orders, generators and the shares of ranks."""

from itertools import chain

import numpy as np
import pytest
import torch
from torch import Tensor

from cifar_lightning.data.loader import AUGMENTATION_STREAM
from cifar_lightning.data.sampler import epoch_order, evaluation_share, generator_for, training_share


def test_order_is_a_permutation_and_depends_on_seed_and_epoch_only() -> None:
    order = epoch_order(100, seed=3, epoch=5)
    torch.manual_seed(12345)
    torch.rand(7)
    assert torch.equal(order, epoch_order(100, seed=3, epoch=5))
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(100))
    different = [epoch_order(100, seed, epoch).tolist() for seed, epoch in ((3, 6), (4, 5), (5, 3))]
    assert order.tolist() not in different


def test_order_does_not_touch_the_global_generators() -> None:
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    epoch_order(20, 0, 0)
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.get_state()[1].tolist() == numpys  # type: ignore[index,union-attr]


def stream(*key: int) -> list[float]:
    return torch.rand(4, generator=generator_for(*key)).tolist()


def test_generators_with_the_same_key_give_the_same_stream() -> None:
    assert stream(3, 5, 1) == stream(3, 5, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, 1), (1, 0)),
        ((0, 0), (0, 1)),
        ((0, 2), (1, 1)),  # the same sum
        ((7,), (7, 1)),
        ((0, 0), (0, 0, AUGMENTATION_STREAM)),  # order and augmentation of the first epoch
        ((5, 9), (5, 9, AUGMENTATION_STREAM)),
        ((2**32 - 1, 0), (0, 2**32 - 1)),
    ],
)
def test_generators_with_other_keys_give_other_streams(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert not set(stream(*one)) & set(stream(*other))


def test_the_order_is_drawn_apart_from_the_augmentation() -> None:
    for epoch in (0, 1):
        same_key = torch.randperm(100, generator=generator_for(5, epoch, AUGMENTATION_STREAM))
        assert not torch.equal(epoch_order(100, 5, epoch), same_key)


def test_no_two_of_many_keys_share_a_stream() -> None:
    keys = [(seed, epoch) for seed in range(30) for epoch in range(30)]
    keys += [(*key, AUGMENTATION_STREAM) for key in keys]  # type: ignore[misc]
    assert len({tuple(stream(*key)) for key in keys}) == len(keys)


# (size, batch_size, world_size)
SHARES = [
    (24, 6, 1),
    (24, 6, 2),
    (24, 6, 3),
    (24, 6, 6),
    (20, 6, 1),  # a last batch of 2
    (20, 6, 2),
    (20, 6, 3),  # 2 images left for 3 ranks
    (23, 6, 2),  # 5 left for 2
    (23, 8, 4),  # 7 left for 4
    (5, 8, 2),  # less than a batch
    (3, 4, 4),  # fewer images than ranks
    (1000, 96, 8),
]


def batches_of(share: Tensor, batch_size: int) -> list[list[int]]:
    return [batch.tolist() for batch in share.split(batch_size)] if len(share) else []


@pytest.mark.parametrize(("size", "batch_size", "world_size"), SHARES)
def test_the_ranks_kth_batches_are_together_the_kth_of_one_process(size: int, batch_size: int, world_size: int) -> None:
    order = epoch_order(size, 1, 2)
    shares = [training_share(order, batch_size, rank, world_size) for rank in range(world_size)]
    per_rank = [batches_of(share, batch_size // world_size) for share in shares]
    dropped = (size % batch_size) % world_size
    together = [list(chain(*parts)) for parts in zip(*per_rank, strict=True)]  # strict: all ranks take equal steps
    # In rank order the parts give the very order of one process; the last batch lacks what is dropped at its end.
    assert together == batches_of(order[: size - dropped], batch_size)


@pytest.mark.parametrize(("size", "batch_size", "world_size"), SHARES)
def test_ranks_train_on_equally_many_images_and_none_twice(size: int, batch_size: int, world_size: int) -> None:
    order = epoch_order(size, 1, 2)
    shares = [training_share(order, batch_size, rank, world_size).tolist() for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    seen = list(chain(*shares))
    assert len(set(seen)) == len(seen)
    assert 0 <= size - len(seen) < world_size


def test_another_epoch_drops_other_images() -> None:
    dropped = set()
    for epoch in range(20):
        order = epoch_order(20, 0, epoch)
        seen = torch.cat([training_share(order, 6, rank, 3) for rank in range(3)]).tolist()
        dropped |= set(range(20)) - set(seen)
    assert len(dropped) > 10  # 40 draws from 20 images


@pytest.mark.parametrize(("size", "world_size"), [(20, 1), (20, 2), (20, 3), (10_000, 7), (3, 5), (0, 2)])
def test_evaluation_shares_cover_every_image_once_in_order(size: int, world_size: int) -> None:
    order = torch.arange(100, 100 + size)
    shares = [evaluation_share(order, rank, world_size) for rank in range(world_size)]
    assert torch.cat(shares).tolist() == order.tolist()
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1
