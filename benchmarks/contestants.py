"""The loops that are compared: each trains a net for a span of steps and returns the seconds of a step."""

import contextlib
import io
import itertools
import logging
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import CIFAR10

from benchmarks.data_path import endless, plain_loader
from benchmarks.workbench import Workbench
from cifar_lightning.classifier import Batch
from cifar_lightning.config.parser import Experiment
from cifar_lightning.data.loader import NO_AUGMENTATION
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.runs.record import RunRecord
from cifar_lightning.training.callbacks.graceful_stop import Stopped
from cifar_lightning.training.callbacks.timer import synchronise
from cifar_lightning.training.trainer import assemble

LEARNING_RATE = 1e-3  # the report's


class Span(NamedTuple):
    """Which steps are timed: `steps` steps of `batch_size` images, after `warmup_steps`."""

    batch_size: int
    warmup_steps: int
    steps: int

    @property
    def last_step(self) -> int:
        """The number of the last step, from 1."""
        return self.warmup_steps + self.steps


class Stopwatch(Callback):
    """Reads the clock at both ends of a span, when the device has done its work; in between it only counts."""

    def __init__(self, span: Span, device: torch.device) -> None:
        self.span, self.device = span, device
        self._steps = 0
        self._readings: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a step of the Trainer."""
        self.count()

    def count(self) -> None:
        """Counts a step, of whatever loop."""
        self._steps += 1
        if self._steps in (self.span.warmup_steps, self.span.last_step):
            synchronise(self.device)
            self._readings.append(time.perf_counter())

    @property
    def seconds_per_step(self) -> float:
        """The mean of the span.

        Raises:
            RuntimeError: the training ended before the span did.
        """
        if len(self._readings) < 2:
            raise RuntimeError(f"the training took {self._steps} steps of the {self.span.last_step} to be timed")
        started_at, ended_at = self._readings
        return (ended_at - started_at) / self.span.steps


class OneLayer(nn.Module):
    """One dense layer on the flattened image: a net so small that a training step is all overhead."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Maps float images (N, 3, 32, 32) to logits (N, 10)."""
        return self.layers(images)


class _BlindTerminal(io.TextIOWrapper):
    """A terminal that nobody sees: progress bars take it for a true one and draw, which costs what drawing costs."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def out_of_sight() -> Iterator[None]:
    """What is printed goes to a blind terminal; no advice: the contestants are set as they are on purpose."""
    with (
        open(os.devnull, "wb") as sink,
        _BlindTerminal(sink, encoding="utf-8") as terminal,
        contextlib.redirect_stdout(terminal),
        contextlib.redirect_stderr(terminal),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def our_experiment(bench: Workbench, span: Span, *flags: str) -> Experiment:
    """What `fit` makes of its flags; its data stay loaded from one training to the next."""
    return Experiment(
        "fit",
        [
            f"--data.batch_size={span.batch_size}",
            f"--data.val_size={bench.effort.val_size}",
            f"--trainer.max_steps={span.last_step}",
            f"--trainer.accelerator={bench.accelerator}",
            "--final_test=false",
            *flags,
        ],
    )


def ours(
    bench: Workbench, experiment: Experiment, span: Span, prepare: Callable[[Trainer], None] = lambda trainer: None
) -> float:
    """The full `fit` pipeline, with its progress bar; seconds per step. `prepare` gets the Trainer before it runs.

    Raises:
        KeyboardInterrupt: a signal came; a benchmark has no checkpoint to go on with.
    """
    record = RunRecord(recipe="bench", source=experiment.datamodule.source)
    stopwatch = Stopwatch(span, bench.device)
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder, out_of_sight():
        trainer = assemble(experiment, Path(folder), record, {}).trainer
        prepare(trainer)
        trainer.callbacks.append(stopwatch)  # type: ignore[attr-defined]
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            trainer.fit(experiment.model, datamodule=experiment.datamodule)
        except Stopped:
            raise KeyboardInterrupt from None
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)  # GracefulStop gives Lightning's back, after Lightning's own end
    return stopwatch.seconds_per_step


def bare_loop(
    bench: Workbench, net: nn.Module, span: Span, precision: str, augmentation: Augmentation = NO_AUGMENTATION
) -> float:
    """The least that trains: our loader, channels_last, autocast where `precision` is mixed; seconds per step."""
    net = net.to(bench.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    loader, stopwatch = bench.loader(span.batch_size, augmentation), Stopwatch(span, bench.device)
    mixed = precision == "bf16-mixed"
    for images, labels in itertools.islice(endless(loader), span.last_step):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(bench.device.type, torch.bfloat16) if mixed else contextlib.nullcontext():
            loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        stopwatch.count()
    return stopwatch.seconds_per_step


def everything_off(bench: Workbench, net: nn.Module, span: Span) -> float:
    """Lightning's Trainer with nothing but the loop, in fp32 over our loader; seconds per step."""
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return _in_a_trainer(bench, span, Minimal(net), bench.loader(span.batch_size), precision="32-true", **off)


def plain_lightning(
    bench: Workbench, net: nn.Module, dataset: CIFAR10, workers: int, span: Span, precision: Any
) -> float:
    """What a tutorial writes: torchvision's data, metrics by `self.log`, the Trainer's defaults; seconds per step."""
    # With workers the warm-up is longer, until their queues are full.
    span = Span(span.batch_size, span.warmup_steps + 2 * workers, max(span.steps, 4 * workers))
    batches = span.last_step + 2 * workers + 1  # what the workers prepare in advance when the clock stops
    loader = plain_loader(bench, dataset, span.batch_size, workers, batches)
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        return _in_a_trainer(bench, span, _Tutorial(net), loader, precision=precision, default_root_dir=folder)


def _in_a_trainer(bench: Workbench, span: Span, module: LightningModule, loader: Any, **settings: Any) -> float:
    stopwatch = Stopwatch(span, bench.device)
    with out_of_sight():
        trainer = Trainer(
            accelerator=bench.accelerator, devices=1, max_steps=span.last_step, callbacks=[stopwatch], **settings
        )
        trainer.fit(module, loader)
    return stopwatch.seconds_per_step


class Minimal(LightningModule):
    """A training step that returns its loss."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of images float (N, 3, 32, 32) and labels int64 (N,)."""
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)


class _Tutorial(Minimal):
    """The same with its loss and accuracy logged at every step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.accuracy = MulticlassAccuracy(num_classes=10)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels)
        self.accuracy(logits, labels)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log("train_acc", self.accuracy, prog_bar=True, on_step=True, on_epoch=True)
        return loss
