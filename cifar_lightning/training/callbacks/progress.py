"""ProgressLines: Lightning's bar on a terminal, and one line per epoch that stays, everywhere."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TextColumn

from cifar_lightning import process
from cifar_lightning.classifier import Classifier
from cifar_lightning.training.callbacks.learning_curves import LearningCurves
from cifar_lightning.training.callbacks.nan_guard import NanGuard
from cifar_lightning.training.callbacks.timer import RunTimer

REFRESH_S = 0.5  # each refresh reads loss and accuracy, which waits for the device


class ProgressLines(RichProgressBar):
    """Prints one line per epoch; on a terminal a bar moves below them until the training ends.

    Args:
        curves: where the epoch's figures are read.
        timer: where the epoch's times are read.
        guard: asked at each refresh, which waits for the device anyway.
        show_bar: draw the bar; without a terminal it is left out in any case.
    """

    def __init__(self, curves: LearningCurves, timer: RunTimer, guard: NanGuard, show_bar: bool) -> None:
        # The bar's thread looks ten times a second whether there is something to draw.
        super().__init__(refresh_rate=10, console_kwargs={"highlight": False, "soft_wrap": True})
        self.curves = curves
        self.timer = timer
        self.guard = guard
        self._refreshed_at = 0.0
        if not (show_bar and Console().is_terminal):
            self.disable()

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """The figures are the description. Texts keep their width and the bar takes the rest, so that 80 columns do."""
        count = TextColumn("{task.completed}/{task.total}")
        return [TextColumn("{task.description}"), BarColumn(bar_width=None), count]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar, which leaves nothing behind."""
        super().on_train_start(trainer, pl_module)
        if self.progress is not None:
            self.progress.live.transient = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Twice a second moves the bar."""
        if self.is_disabled or time.perf_counter() - self._refreshed_at < REFRESH_S:
            return
        assert isinstance(pl_module, Classifier)
        self._refreshed_at = time.perf_counter()
        self.guard.check(trainer)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        so_far, epoch_s = pl_module.train_metrics.so_far(), self.timer.epoch_s()
        left = "?"
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            batches = (trainer.max_epochs - trainer.current_epoch) * int(trainer.num_training_batches) - batch_idx - 1
            left = str(timedelta(seconds=round(batches * epoch_s / (batch_idx + 1))))
        self.train_progress_bar.description = (
            f"{self._get_train_description(trainer.current_epoch)}  "
            f"loss {so_far['loss']:.3f}  acc {so_far['accuracy']:.1%}  "
            f"{self.timer.images / epoch_s:,.0f} img/s  {left} left"
        )
        with process.terminal_may_close():
            self.refresh()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the epoch's line."""
        row, times = self.curves.rows[-1], self.timer.rows[-1]
        parts = [f"epoch {int(row['epoch']):>3}{_of(trainer)}"]
        for split in ("train", "val"):
            if f"{split}_loss" in row:
                parts.append(f"{split} loss {row[f'{split}_loss']:.4f} accuracy {row[f'{split}_accuracy']:.2%}")
        parts.append(f"{times['images_per_second']:,.0f} images/s")
        parts.append(f"{times['train_s'] + times['val_s']:.1f} s")
        with process.terminal_may_close():
            print("  ".join(parts), flush=True)  # rich prints it above the bar

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar: the test that follows is timed, and needs none."""
        self._stop_progress()
        self.disable()

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}{_of(self.trainer)}"


def _of(trainer: Trainer) -> str:
    return f"/{trainer.max_epochs}" if trainer.max_epochs is not None and trainer.max_epochs > 0 else ""
