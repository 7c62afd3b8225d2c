"""Progress: a bar that moves on a terminal, and one line per epoch that stays, everywhere."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from cifar_lightning.classifier import Classifier
from cifar_lightning.training.callbacks.learning_curves import LearningCurves
from cifar_lightning.training.callbacks.nan_guard import NanGuard
from cifar_lightning.training.callbacks.timer import Timer

REFRESH_S = 0.5  # each refresh reads loss and accuracy, which waits for the device


class ProgressLines(Callback):
    """Prints one line per epoch; with `show_bar` a bar moves below them.

    Args:
        curves: where the epoch's figures are read.
        timer: where the epoch's times are read.
        guard: asked at each refresh, which waits for the device anyway.
        show_bar: draw the bar; without a terminal it is left out in any case.
    """

    def __init__(self, curves: LearningCurves, timer: Timer, guard: NanGuard, show_bar: bool) -> None:
        self.curves = curves
        self.timer = timer
        self.guard = guard
        self.console = Console(highlight=False, soft_wrap=True)
        self.show_bar = show_bar and self.console.is_terminal
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._refreshed_at = 0.0
        self._images = 0  # seen since training began here, for the rate and the time left
        self._steps = 0
        self._began_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar."""
        self._images, self._steps, self._began_at = 0, 0, time.perf_counter()
        if self.show_bar:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
                auto_refresh=False,  # no thread beside the training: it is drawn when the figures are read
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task("", total=None, figures="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts, and twice a second draws."""
        self._images += len(batch[1]) * trainer.world_size
        self._steps += 1
        if self._bar is None or time.perf_counter() - self._refreshed_at < REFRESH_S:
            return
        assert isinstance(pl_module, Classifier)
        self._refreshed_at = now = time.perf_counter()
        self.guard.check(trainer)
        so_far = pl_module.metrics_of("train").so_far()
        elapsed_s = now - self._began_at
        figures = (
            f"loss {so_far['loss']:.3f}  acc {so_far['accuracy']:.1%}  "  # short: all fits in 80 columns
            f"{self._images / elapsed_s:,.0f} img/s  {self._left(trainer, batch_idx, elapsed_s)} left"
        )
        self._bar.update(
            self._task,
            description=f"epoch {trainer.current_epoch + 1}{_of(trainer)}",
            completed=batch_idx + 1,
            total=trainer.num_training_batches,
            figures=figures,
        )
        self._bar.refresh()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so: the bar stands still meanwhile."""
        if self._bar is not None:
            batches = trainer.num_training_batches
            self._bar.update(self._task, completed=batches, total=batches, figures="validating")
            self._bar.refresh()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the epoch's line."""
        row, times = self.curves.rows[-1], self.timer.rows[-1]
        parts = [f"epoch {int(row['epoch']):>3}{_of(trainer)}"]
        for split in ("train", "val"):
            if f"{split}_loss" in row:
                parts.append(f"{split} loss {row[f'{split}_loss']:.4f} accuracy {row[f'{split}_accuracy']:.2%}")
        parts.append(f"{times['images_per_second']:,.0f} images/s")
        parts.append(f"{times['train_s'] + times['val_s']:.1f} s")
        self.console.print("  ".join(parts))
        self.console.file.flush()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar, so that the error stands on a line of its own."""
        self._close()

    def _left(self, trainer: Trainer, batch_idx: int, elapsed_s: float) -> str:
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            return "?"
        batches = int(trainer.num_training_batches)
        steps = (trainer.max_epochs - trainer.current_epoch) * batches - batch_idx - 1
        minutes, seconds = divmod(round(steps * elapsed_s / self._steps), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _of(trainer: Trainer) -> str:
    return f"/{trainer.max_epochs}" if trainer.max_epochs is not None and trainer.max_epochs > 0 else ""
