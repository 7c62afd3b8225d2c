"""What every measurement needs: the device, the data in memory, a temporary folder, and how long it may take."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from cifar_lightning.data import download
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.data.loader import NO_AUGMENTATION, TensorLoader
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.runs import environment
from cifar_lightning.training.callbacks.timer import synchronise

_CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Effort:
    """How long a benchmark measures."""

    rounds: int = 5  # of everything but the overhead
    seconds: float = 1.5  # of each data path, and of each training by the bare loop; the others take the same steps
    worker_counts: tuple[int, ...] = tuple(sorted({0, 1, 2, _CORES, 2 * _CORES}))  # of the DataLoader; the best counts
    batch_sizes: tuple[int, ...] = (30, 128, 512)  # images per training step
    warmup_steps: int = 5  # of a training, before the clock starts
    overhead_rounds: int = 9
    overhead_steps: int = 1000
    own_processes: bool = True  # of each training, as it must have to be compared with scripts
    val_size: int = 5000  # images that validate, as in `fit`


FULL = Effort()

# In one process: the scripts get the memory settings of `fit` as well, and look better than they are.
QUICK = Effort(
    rounds=1,
    seconds=0.5,
    worker_counts=(0, 2),
    batch_sizes=(30, 512),
    warmup_steps=2,
    overhead_rounds=3,
    overhead_steps=200,
    own_processes=False,
)


@dataclass(frozen=True)
class Workbench:
    """The place of one benchmark."""

    accelerator: str  # Lightning's name of it: 'cpu', 'cuda' or 'mps'
    effort: Effort
    data: CIFAR10DataModule  # with its training split loaded
    folder: Path  # where runs may write; removed at the end

    @property
    def device(self) -> torch.device:
        """Where the nets are."""
        return torch.device(self.accelerator)

    @property
    def precision(self) -> str:
        """The precision of a `fit` here that is given none."""
        return environment.native_precision(self.accelerator)

    def synchronise(self) -> None:
        """Waits until the device has done all that was asked of it."""
        synchronise(self.device)

    def loader(self, batch_size: int, augmentation: Augmentation = NO_AUGMENTATION) -> TensorLoader:
        """The loader of `fit` for the training split, with the images on the device."""
        images, labels = (tensor.to(self.device) for tensor in self.data.images_of("train"))
        return TensorLoader(images, labels, batch_size=batch_size, shuffle=True, augmentation=augmentation)


def find_data(val_size: int) -> CIFAR10DataModule:
    """CIFAR-10 where `fit` would find it, nothing of it read; a benchmark downloads nothing.

    Raises:
        DataError: it is not there.
    """
    data = CIFAR10DataModule(val_size=val_size)
    download.prepare(data.root, download=False, layout=data.layout)
    return data
