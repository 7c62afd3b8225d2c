"""Images per second of the data path alone: the loader in memory against torchvision's data set and DataLoader."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.datasets import CIFAR10

from benchmarks.measure import interleave, ratio, summaries
from benchmarks.workbench import Workbench
from cifar_lightning.data.loader import Batch, TensorLoader
from cifar_lightning.data.transforms import CIFAR10_MEAN, CIFAR10_STD, Augmentation

BATCH_SIZE = 512
SMALL_BATCH_SIZE = 30  # the report's
PADDING = 4
AUGMENTATION = Augmentation(flip="random", crop_padding=PADDING)
OURS, TORCHVISION = "ours", "torchvision"


def measure(bench: Workbench) -> dict[str, Any]:
    """Ours in three settings and torchvision with its best number of workers.

    Returns:
        `images_per_s` by contestant, `torchvision_workers` (images/s by number of workers), `best_workers` and
        `ratio`, ours to torchvision's.
    """
    dataset = plain_dataset(bench, augmented=True)
    speeds = {count: _plain(bench, dataset, count)() for count in bench.effort.worker_counts}
    best = max(speeds, key=lambda count: speeds[count])
    values = interleave(
        {
            OURS: _ours(bench, BATCH_SIZE, AUGMENTATION),
            TORCHVISION: _plain(bench, dataset, best),
            "ours, not augmented": _ours(bench, BATCH_SIZE, Augmentation()),
            f"ours, batch {SMALL_BATCH_SIZE}": _ours(bench, SMALL_BATCH_SIZE, AUGMENTATION),
        },
        bench.effort.rounds,
    )
    return {
        "batch_size": BATCH_SIZE,
        "images_per_s": summaries(values),
        "torchvision_workers": {str(count): speed for count, speed in speeds.items()},
        "best_workers": best,
        "ratio": ratio(values[OURS], values[TORCHVISION]),
    }


def plain_dataset(bench: Workbench, augmented: bool) -> CIFAR10:
    """torchvision's training set with its transforms: normalised tensors, with random crop and flip if `augmented`."""
    steps = [transforms.ToTensor(), transforms.Normalize(CIFAR10_MEAN, CIFAR10_STD)]
    if augmented:
        crop = transforms.RandomCrop(32, padding=PADDING, padding_mode="reflect")
        steps = [crop, transforms.RandomHorizontalFlip(), *steps]
    return CIFAR10(bench.data.root.path, train=True, transform=transforms.Compose(steps))


def plain_loader(bench: Workbench, dataset: CIFAR10, batch_size: int, workers: int, batches: int) -> DataLoader[Any]:
    """torch's DataLoader in random order over as many epochs as `batches` take.

    It must not end within a measurement, since at an epoch's end the workers have nothing to prepare in advance.
    """
    order = RandomSampler(dataset, num_samples=batches * batch_size)
    return DataLoader(dataset, batch_size, sampler=order, num_workers=workers, pin_memory=bench.accelerator == "cuda")


def endless(loader: TensorLoader) -> Iterator[Batch]:
    """The batches of one epoch after the other."""
    while True:
        yield from loader


def rate(batches: Iterable[Batch], least_s: float, synchronise: Callable[[], None]) -> float:
    """Images per second of iterating over `batches` until `least_s` seconds are over, or the batches."""
    images, started_at = 0, time.perf_counter()
    for _, labels in batches:
        images += len(labels)
        if time.perf_counter() - started_at >= least_s:
            break
    synchronise()
    return images / (time.perf_counter() - started_at)


def _ours(bench: Workbench, batch_size: int, augmentation: Augmentation) -> Callable[[], float]:
    loader = bench.loader(batch_size, augmentation)

    def measured() -> float:
        next(iter(loader))  # warms up; the loader goes on behind it
        return rate(endless(loader), bench.effort.seconds, bench.synchronise)

    return measured


def _plain(bench: Workbench, dataset: CIFAR10, workers: int) -> Callable[[], float]:
    def measured() -> float:
        loader = plain_loader(bench, dataset, BATCH_SIZE, workers, batches=10**6)
        # Both contestants end where the net is.
        batches = (tuple(tensor.to(bench.device, non_blocking=True) for tensor in batch) for batch in loader)
        for _ in range(2 * workers + 2):  # the workers start, and fill their queues
            next(batches)
        return rate(batches, bench.effort.seconds, bench.synchronise)

    return measured
