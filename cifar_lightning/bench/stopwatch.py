"""Stopwatch: the time of a span of training steps, after a warm-up."""

import time
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.training.callbacks.timer import synchronise


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
    """Reads the clock at both ends of a span; in between it only counts.

    Args:
        span: which steps.
        device: waited for before each reading.
    """

    def __init__(self, span: Span, device: torch.device) -> None:
        self.span = span
        self.device = device
        self.elapsed_s: float | None = None
        self._started_at = 0.0
        self._steps = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a step of the Trainer."""
        self.count()

    def count(self) -> None:
        """Counts a step, of whatever loop."""
        self._steps += 1
        if self._steps == self.span.warmup_steps:
            synchronise(self.device)
            self._started_at = time.perf_counter()
        elif self._steps == self.span.last_step:
            synchronise(self.device)
            self.elapsed_s = time.perf_counter() - self._started_at

    @property
    def seconds_per_step(self) -> float:
        """The mean of the span.

        Raises:
            RuntimeError: the training ended before the span did.
        """
        if self.elapsed_s is None:
            raise RuntimeError(f"the training took {self._steps} steps of the {self.span.last_step} to be timed")
        return self.elapsed_s / self.span.steps
