"""TensorLoader: batches straight from a data set in memory, in an order that is a function of (seed, epoch)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cifar_lightning.data import policies, transforms
from cifar_lightning.data.sampler import (
    AUGMENTATION_STREAM,
    epoch_order,
    evaluation_share,
    generator_for,
    training_share,
)
from cifar_lightning.data.transforms import Augmentation, Draws, Normalize

NO_AUGMENTATION = Augmentation()
# Images that are prepared at once: enough to spread the cost of a dozen calls over many small batches, few enough that
# their floats stay in the processor's cache and in memory that the allocator has at hand.
CHUNK = 1024

Batch = tuple[Tensor, Tensor]


class TensorLoader:
    """Yields `(images, labels)` batches: float32 (B, 3, 32, 32) channels_last, normalised, and int64 (B,).

    Where images are mixed, the labels are the shares of the classes, float32 (B, num_classes). The partner of an image
    is any image of the split, not one of its batch: it too is a function of (seed, epoch, image).

    The loader is a cursor over an endless sequence of epochs. Iterating goes on from the cursor to the end of its
    epoch, so a restored loader resumes in mid-epoch; at the end the cursor stands at the next epoch's first batch.
    Under Lightning the Trainer names the epoch through `sampler.set_epoch`, and it saves and restores the cursor in
    mid-epoch through `state_dict` and `load_state_dict`. The last, smaller batch is kept. Without `shuffle` every
    iteration begins at the first batch, so that a split is always scored from its beginning.

    Which image comes when is a function of (seed, epoch), what is done to it one of (seed, epoch, image): the number
    of ranks, the size of batches and the place where a run was cut change neither.

    Args:
        images: uint8 (N, 32, 32, 3), on the device where they are kept.
        labels: int64 (N,).
        batch_size: images per step; in training of all ranks together.
        shuffle: for training: a new order in each epoch, all ranks in equal steps (see `training_share`). Without it
            the order of `images`, each image on exactly one rank.
        seed: with the epoch's number, all that order and augmentation depend on.
        augmentation: what is done to each image.
        device: where the batches are wanted; by default where the images are.
        rank: of this process, from 0.
        world_size: the number of processes.
        dataset: whose statistics normalise the images: 'cifar10' or 'cifar100'.
        num_classes: of the labels, for the shares of mixed ones.

    Raises ValueError: `batch_size` is below 1, or cannot be shared out evenly in training.
    """

    batch_sampler = None  # Lightning asks for it where there is a `sampler`

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        augmentation: Augmentation = NO_AUGMENTATION,
        device: torch.device | None = None,
        rank: int = 0,
        world_size: int = 1,
        dataset: str = "cifar10",
        num_classes: int = 10,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if shuffle and batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} cannot be shared out evenly among {world_size} processes")
        self.labels = labels
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.augmentation = augmentation
        self.device = device or images.device
        self.rank, self.world_size = rank, world_size
        self.num_classes = num_classes
        self.normalize = Normalize(dataset).to(self.device)
        padding = augmentation.crop_padding
        self._windows = transforms.windows(transforms.pad_reflect(images, padding) if padding else images, padding)
        self._own_batch_size = batch_size // world_size if shuffle else batch_size
        self._own_images = len(self._share(torch.arange(len(labels))))
        self._epoch = 0
        self._next_batch = 0

    def __len__(self) -> int:
        # Constant over a resume: Lightning prefetches, and saves a position one ahead, where there is no length.
        return -(-self._own_images // self._own_batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # The cursor is read when the first batch is asked for: on a resume Lightning calls iter() before set_epoch().
        self._roll_over()
        if not self.shuffle:  # Lightning leaves validations unfinished, at its sanity check and by limit_val_batches
            self._next_batch = 0
        epoch, size = self._epoch, self._own_batch_size
        everything = torch.arange(len(self.labels))
        share = self._share(epoch_order(len(self.labels), self.seed, epoch) if self.shuffle else everything)
        share = share.to(self.labels.device)
        draws, side = self._draw(epoch), self.augmentation.size_in(epoch)
        per_chunk = max(CHUNK // size, 1)
        for first in range(self._next_batch, len(self), per_chunk):
            chosen = share[first * size : (first + per_chunk) * size]
            images, labels = self._prepare(chosen, draws, side)
            for index, batch in enumerate(zip(images.split(size), labels.split(size), strict=True), start=first):
                # Counted before it is handed over: checkpoints are written while this generator waits at the yield.
                self._next_batch = index + 1
                yield batch
        self._roll_over()

    @property
    def sampler(self) -> "TensorLoader":
        """The loader itself, which keeps its own order: Lightning calls `set_epoch` of a loader's sampler."""
        return self

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

    def _share(self, order: Tensor) -> Tensor:
        if self.shuffle:
            return training_share(order, self.batch_size, self.rank, self.world_size)
        return evaluation_share(order, self.rank, self.world_size)

    def _draw(self, epoch: int) -> Draws | None:
        if self.augmentation == NO_AUGMENTATION:
            return None
        first, current = (generator_for(self.seed, number, AUGMENTATION_STREAM) for number in (0, epoch))
        draws = transforms.draw(self.augmentation, len(self.labels), epoch, first, current)
        return Draws(*(drawn.to(self.labels.device) for drawn in draws))  # once an epoch: no chunk waits for a copy

    def _prepare(self, chosen: Tensor, draws: Draws | None, side: int) -> Batch:
        """Images (n, 3, side, side) and labels (n,) or (n, num_classes) of a chunk, on the device."""
        labels = self.labels[chosen].to(self.device)
        if draws is None:
            images = self.normalize(self._windows[chosen, 0, 0].to(self.device))
        elif not self.augmentation.mixes:
            images = self._augment(chosen, draws)
        else:
            partners = draws.partners[chosen]
            shares, pasted = (drawn[chosen].to(self.device) for drawn in (draws.shares, draws.pasted))
            images, others = self._augment(torch.cat([chosen, partners]), draws).split(len(chosen))
            images = transforms.mix(images, others, shares, pasted)
            others_labels = self.labels[partners].to(self.device)
            labels = transforms.mix_labels(labels, others_labels, shares, self.num_classes)
        if side != images.shape[1]:
            images = transforms.resize(images, side)
        # Channels are the last dimension in memory already, so the permuted view is channels_last without a copy.
        return images.permute(0, 3, 1, 2), labels

    def _augment(self, chosen: Tensor, draws: Draws) -> Tensor:
        """Images (n, 32, 32, 3), normalised and not mixed, on the device."""
        options = self.augmentation
        own = Draws(*(drawn[chosen] for drawn in draws))
        down, right = (own.shifts + options.crop_padding).unbind(1)
        images = self._windows[chosen, down, right].to(self.device)
        if options.flip != "none":
            images = transforms.flip(images, own.flips.to(self.device))
        if options.policy != "none":
            images = policies.apply(images, own.numbers.to(self.device), own.values.to(self.device))
        images = self.normalize(images)
        if options.brightness or options.contrast:
            images = transforms.jitter(images, own.brightness.to(self.device), own.contrast.to(self.device))
        if options.cutout:
            images = transforms.cutout(images, own.cutouts.to(self.device), options.cutout)
        if options.erasing:
            centres, sides = own.erased.to(self.device).unbind(1)
            images = transforms.cutout(images, centres, sides)
        return images

    def _roll_over(self) -> None:
        if self._next_batch >= len(self):
            self._epoch, self._next_batch = self._epoch + 1, 0
