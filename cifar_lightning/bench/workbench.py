"""What every measurement needs: the device, the data in memory, a folder that goes away, how long it may take."""

from dataclasses import dataclass
from pathlib import Path

import torch

from cifar_lightning.bench.effort import Effort
from cifar_lightning.bench.measure import Watch, nobody
from cifar_lightning.data import download
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.data.loader import NO_AUGMENTATION, TensorLoader
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.runs import environment
from cifar_lightning.training.callbacks.timer import synchronise


@dataclass(frozen=True)
class Workbench:
    """The place of one benchmark.

    Args:
        accelerator: Lightning's name of the one in use: 'cpu', 'cuda' or 'mps'.
        effort: how long to measure.
        data: CIFAR-10 with its training split loaded.
        folder: where runs may write; removed at the end.
        watch: told of every measurement that begins.
    """

    accelerator: str
    effort: Effort
    data: CIFAR10DataModule
    folder: Path
    watch: Watch = nobody

    @property
    def device(self) -> torch.device:
        """Where the nets are."""
        return torch.device(self.accelerator)

    @property
    def precision(self) -> str:
        """What `fit` trains with here where no precision is given."""
        return environment.native_precision(self.accelerator)

    def synchronise(self) -> None:
        """Waits until the device has done all that was asked of it."""
        synchronise(self.device)

    def loader(self, batch_size: int, augmentation: Augmentation = NO_AUGMENTATION) -> TensorLoader:
        """The loader of the training split that `fit` has, with the images on the device."""
        images, labels = self.data.images_of("train")
        return TensorLoader(
            images.to(self.device),
            labels.to(self.device),
            batch_size=batch_size,
            shuffle=True,
            augmentation=augmentation,
        )


def find_data(val_size: int) -> CIFAR10DataModule:
    """CIFAR-10 where `fit` would find it, nothing of it read; a benchmark downloads nothing.

    Raises:
        DataError: it is not there.
    """
    data = CIFAR10DataModule(val_size=val_size)
    download.prepare(data.root, download=False, layout=data.layout)
    return data
