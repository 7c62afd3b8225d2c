"""The loops that are compared: each trains a net for a span of steps and returns the seconds of a step."""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import CIFAR10

from cifar_lightning.bench.data_path import plain_loader
from cifar_lightning.bench.quiet import blind_terminal, out_of_sight, signal_handlers_kept
from cifar_lightning.bench.stopwatch import Span, Stopwatch
from cifar_lightning.bench.workbench import Workbench
from cifar_lightning.classifier import Batch
from cifar_lightning.config.parser import Experiment
from cifar_lightning.data.loader import TensorLoader
from cifar_lightning.runs.record import RunRecord
from cifar_lightning.training.callbacks.graceful_stop import Stopped
from cifar_lightning.training.trainer import assemble

LEARNING_RATE = 1e-3  # the report's


def our_experiment(bench: Workbench, span: Span, flags: list[str]) -> Experiment:
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


def ours(bench: Workbench, experiment: Experiment, span: Span) -> float:
    """Everything that `fit` has beside the training is on, and its bar draws; seconds per step.

    Raises:
        KeyboardInterrupt: Ctrl-C came; a benchmark has no checkpoint to go on with.
    """
    record = RunRecord(recipe="bench", source=experiment.datamodule.source)
    stopwatch = Stopwatch(span, bench.device)
    with (
        tempfile.TemporaryDirectory(dir=bench.folder) as folder,
        blind_terminal() as terminal,
        contextlib.redirect_stdout(terminal),
        signal_handlers_kept(),
    ):
        trainer = assemble(experiment, Path(folder), record, {}).trainer
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(stopwatch)
        try:
            trainer.fit(experiment.model, datamodule=experiment.datamodule)
        except Stopped as stop:
            if stop.exit_code == 130:
                raise KeyboardInterrupt from None
            raise SystemExit(stop.exit_code) from None
    return stopwatch.seconds_per_step


def bare_loop(bench: Workbench, net: nn.Module, span: Span, precision: str) -> float:
    """The least that trains: our loader, channels_last, autocast where `precision` is mixed; seconds per step."""
    net = net.to(bench.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    loader, stopwatch = bench.loader(span.batch_size), Stopwatch(span, bench.device)
    mixed = precision == "bf16-mixed"
    for images, labels in itertools.islice(_endless(loader), span.last_step):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(bench.device.type, torch.bfloat16) if mixed else contextlib.nullcontext():
            loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        stopwatch.count()
    return stopwatch.seconds_per_step


def everything_off(bench: Workbench, net: nn.Module, span: Span) -> float:
    """Lightning's Trainer with nothing but the loop, in fp32 over our loader; seconds per step."""
    stopwatch = Stopwatch(span, bench.device)
    trainer = Trainer(
        accelerator=bench.accelerator,
        devices=1,
        precision="32-true",
        max_steps=span.last_step,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[stopwatch],
    )
    with signal_handlers_kept():
        trainer.fit(_Minimal(net), bench.loader(span.batch_size))
    return stopwatch.seconds_per_step


def plain_lightning(
    bench: Workbench, net: nn.Module, dataset: CIFAR10, workers: int, span: Span, precision: Any
) -> float:
    """What a tutorial writes: torchvision's data set, metrics by `self.log`, the Trainer's defaults; seconds per step.

    Args:
        net: the net to train.
        dataset: torchvision's, with its transforms.
        workers: of the DataLoader. With them the warm-up is longer, until their queues are full.
        span: which steps are timed.
        precision: the Trainer's.
    """
    span = Span(span.batch_size, span.warmup_steps + 2 * workers, max(span.steps, 4 * workers))
    stopwatch = Stopwatch(span, bench.device)
    batches = span.last_step + 2 * workers + 1  # what the workers prepare in advance when the clock stops
    loader = plain_loader(bench, dataset, span.batch_size, workers, batches)
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder, out_of_sight(), signal_handlers_kept():
        trainer = Trainer(
            accelerator=bench.accelerator,
            devices=1,
            precision=precision,
            max_steps=span.last_step,
            default_root_dir=folder,
            callbacks=[stopwatch],
        )
        trainer.fit(_Tutorial(net), loader)
    return stopwatch.seconds_per_step


def _endless(loader: TensorLoader) -> Iterator[Batch]:
    while True:
        yield from loader


class _Minimal(LightningModule):
    """A training step that returns its loss."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)


class _Tutorial(_Minimal):
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
