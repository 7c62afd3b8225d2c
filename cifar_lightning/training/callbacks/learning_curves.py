"""LearningCurves: one row per epoch, to metrics.csv, TensorBoard and curves.png."""

import contextlib
import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.classifier import Classifier
from cifar_lightning.errors import NonFiniteError, OutputError
from cifar_lightning.runs import figures
from cifar_lightning.runs.atomic import write_csv
from cifar_lightning.training.callbacks.tensorboard import RunTensorBoard
from cifar_lightning.training.callbacks.timer import RunTimer

COLUMNS = ("epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


class LearningCurves(Callback):
    """Notes each epoch's loss, accuracy and learning rate; epochs count from 1.

    The rows travel in the checkpoint and metrics.csv is written anew from them, so that a resumed run's curve has no
    gap and no doubled epoch, wherever the run was stopped. metrics.csv holds deterministic columns only; what depends
    on the machine is in the file of the `RunTimer`.

    Args:
        folder: the run's folder.
        timer: where the epoch's throughput is read.
        title: printed above curves.png.
        label_smoothing: of the training's loss, which is then not that of validation; said beside its curve.
    """

    def __init__(self, folder: Path, timer: RunTimer, title: str, label_smoothing: float = 0.0) -> None:
        self.folder = folder
        self.timer = timer
        self.title = title
        self.label_smoothing = label_smoothing
        self.rows: list[dict[str, float]] = []
        self._learning_rate = math.nan

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a resume: what was written after the checkpoint, or of an epoch that goes on, is dropped."""
        if trainer.ckpt_path:
            self.rows = self.rows[: trainer.current_epoch]
            self._write_csv()
            if isinstance(trainer.logger, RunTensorBoard):
                trainer.logger.purge_from = len(self.rows) + 1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The rate that the epoch starts with; schedulers move it before the epoch ends."""
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the row, before the epoch's checkpoints hold it. Raises NonFiniteError where a loss is no number."""
        assert isinstance(pl_module, Classifier)
        epoch = trainer.current_epoch + 1
        row = {"epoch": float(epoch), "learning_rate": self._learning_rate}
        splits = {"train": dict(pl_module.train_metrics.compute()), "val": pl_module.validated}
        for split, values in splits.items():
            row |= {f"{split}_{name}": value for name, value in values.items()}
            if not math.isfinite(loss := values.get("loss", 0.0)):
                raise NonFiniteError(
                    f"the {split} loss of epoch {epoch} is {loss}; nothing was saved at the end of this epoch; "
                    f"try a lower --model.optimizer.lr (it was {self._learning_rate:g})"
                )
        self.rows.append(row)
        self._write_csv()
        splits["train"]["learning_rate"] = self._learning_rate
        splits["train"]["images_per_second"] = self.timer.rows[-1]["images_per_second"]
        points = {f"{split}/{name}": value for split, values in splits.items() for name, value in values.items()}
        for logger in trainer.loggers:
            if isinstance(logger, RunTensorBoard):
                logger.log_curves(points, epoch)
            else:  # the user's own
                logger.log_metrics(points, step=epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws curves.png."""
        if trainer.is_global_zero:
            self.draw()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draws what there is when a run stops early."""
        if trainer.is_global_zero:
            with contextlib.suppress(OutputError):  # on a full disk the first error is the one to tell
                self.draw()

    def draw(self) -> None:
        """Writes curves.png from the rows, if there are any."""
        if self.rows:
            figures.save(figures.curves(self.rows, self.title, self.label_smoothing), self.folder / "curves.png")

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows, "learning_rate": self._learning_rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = list(state_dict["rows"])
        self._learning_rate = state_dict["learning_rate"]

    def _write_csv(self) -> None:
        columns = [name for name in COLUMNS if any(name in row for row in self.rows)]
        write_csv(self.folder / "metrics.csv", columns, self.rows)
