"""Which image comes when, and on which rank: pure functions of (seed, epoch), free of any global random state."""

import numpy as np
import torch
from torch import Generator, Tensor

# Set the keys of different purposes apart; never 0, which would be as if it were not there.
AUGMENTATION_STREAM, RANK_STREAM = 1, 2


def generator_for(*key: int) -> Generator:
    """A CPU generator that depends on all of `key` alone; two keys that differ give unrelated streams.

    Args:
        key: numbers from 0; the last must not be 0 where keys of several lengths are in use.
    """
    # SeedSequence mixes its parts: (0, 1) and (1, 0) are unrelated, which seed + epoch would not be.
    mixed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return Generator().manual_seed(mixed)


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """A permutation of `range(size)` (int64), the same for the same arguments whatever else has drawn numbers."""
    return torch.randperm(size, generator=generator_for(seed, epoch))


def training_share(order: Tensor, batch_size: int, rank: int, world_size: int) -> Tensor:
    """What `rank` trains on: its part of each global batch of `batch_size` images, one part after the other.

    Batch k of all ranks together is batch k of one process, so the number of ranks does not change the training. All
    ranks take equal steps: a last, smaller batch is shared out evenly, and what is left over (fewer images than ranks)
    is dropped.

    Of `order`, int64 (N,), and a `batch_size` that is a multiple of `world_size`, this gives int64 (N // world_size or
    fewer,), to be cut into batches of `batch_size // world_size`.
    """
    whole = len(order) // batch_size * batch_size
    full = order[:whole].view(-1, world_size, batch_size // world_size)[:, rank].flatten()
    rest = (len(order) - whole) // world_size
    return torch.cat([full, order[whole + rank * rest : whole + (rank + 1) * rest]])


def dropped_images(size: int, batch_size: int, world_size: int) -> int:
    """How many of `size` images `training_share` leaves out of an epoch: fewer than `world_size`."""
    return size % batch_size % world_size


def evaluation_share(order: Tensor, rank: int, world_size: int) -> Tensor:
    """What `rank` scores: a contiguous part; the parts cover every image once and differ by one at most."""
    return order[len(order) * rank // world_size : len(order) * (rank + 1) // world_size]
