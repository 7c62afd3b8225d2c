"""TensorLoader: batches straight from a data set in memory, in an order that is a function of (seed, epoch)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Per channel (R, G, B), measured over the 50,000 training images in units of 0 to 1.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)  # not 0.2023, 0.1994, 0.2010: those average each image's own deviation

Batch = tuple[Tensor, Tensor]


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """A permutation of `range(size)` (int64), the same for the same arguments whatever else has drawn numbers."""
    # SeedSequence mixes the pair: (0, 1) and (1, 0) give unrelated orders, which seed + epoch would not.
    mixed = int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.randperm(size, generator=torch.Generator().manual_seed(mixed))


def normalise(images: Tensor) -> Tensor:
    """Turns uint8 images (N, 32, 32, 3) into normalised float32 (N, 3, 32, 32), laid out channels_last."""
    mean = torch.tensor(CIFAR10_MEAN, device=images.device)
    std = torch.tensor(CIFAR10_STD, device=images.device)
    # Channels are the last dimension in memory already, so the permuted view is channels_last without a copy.
    return images.float().div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


class TensorLoader:
    """Yields `(images, labels)` batches: float32 (B, 3, 32, 32) channels_last, normalised, and int64 (B,).

    The loader is a cursor over an endless sequence of epochs. Iterating goes on from the cursor to the end of its
    epoch, so a restored loader resumes in mid-epoch; at the end the cursor stands at the next epoch's first batch.
    Under Lightning the Trainer names the epoch through `sampler.set_epoch`, and it saves and restores the cursor in
    mid-epoch through `state_dict` and `load_state_dict`. The last, smaller batch is kept.

    Args:
        images: uint8 (N, 32, 32, 3).
        labels: int64 (N,).
        batch_size: images per batch.
        shuffle: a new order in each epoch; without it the order of `images`.
        seed: with the epoch's number, all that the order depends on.

    Raises:
        ValueError: `batch_size` is below 1.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, batch_size: int, shuffle: bool, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.sampler, self.batch_sampler = self, None  # where Lightning looks for set_epoch
        self._epoch = 0
        self._next_batch = 0

    def __len__(self) -> int:
        # Constant over a resume: Lightning prefetches, and saves a position one ahead, where there is no length.
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # The cursor is read when the first batch is asked for: on a resume Lightning calls iter() before set_epoch().
        self._roll_over()
        epoch = self._epoch
        order = epoch_order(len(self.images), self.seed, epoch) if self.shuffle else torch.arange(len(self.images))
        order = order.to(self.images.device)
        for index in range(self._next_batch, len(self)):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            batch = normalise(self.images[chosen]), self.labels[chosen]
            # Counted before it is handed over: checkpoints are written while this generator waits at the yield.
            self._next_batch = index + 1
            yield batch
        self._roll_over()

    def set_epoch(self, epoch: int) -> None:
        """Moves to the first batch of `epoch`; within the current epoch the position stays."""
        if epoch != self._epoch:
            self._epoch, self._next_batch = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """The cursor: the epoch and the number of its next batch."""
        self._roll_over()
        return {"epoch": self._epoch, "next_batch": self._next_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts the cursor where `state_dict` found it."""
        self._epoch, self._next_batch = state["epoch"], state["next_batch"]

    def _roll_over(self) -> None:
        if self._next_batch >= len(self):
            self._epoch, self._next_batch = self._epoch + 1, 0
