"""Timing: seconds and throughput of each epoch, apart from the deterministic figures."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.runs.atomic import write_csv


class SpeedClock(Callback):
    """Wall-clock seconds of the training and of each evaluation at its end, about as speed records count them.

    The training's span begins before the first step's own preparations (the whitening of `Classifier`) and ends after
    the last epoch's last batch and its validation, if any; what happens between epochs counts: validations,
    checkpoints, and in a run of more than a minute TensorBoard's pictures. An evaluation's span begins before its first
    batch and ends when every image has its logits. Outside lie imports, reading the data, moving them to the device and
    padding them for crops, and the compilation that `CompileWarmup` brings forward. To stand before the callbacks that
    write and draw at the end of an epoch.
    """

    def __init__(self) -> None:
        self.train_s: float | None = None  # None for a run that was resumed: nobody knows how long it stood
        self.evaluation_s: list[float] = []  # of each evaluation
        self._started_at = 0.0
        self._is_whole = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock starts."""
        self._is_whole = trainer.global_step == 0
        synchronise(pl_module.device)
        self._started_at = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock stops; if another epoch follows, it will have stopped later."""
        synchronise(pl_module.device)
        if self._is_whole:
            self.train_s = time.perf_counter() - self._started_at

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The evaluation's clock starts."""
        synchronise(pl_module.device)
        self._started_at = time.perf_counter()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The evaluation's clock stops."""
        synchronise(pl_module.device)
        self.evaluation_s.append(time.perf_counter() - self._started_at)

    def result(self) -> dict[str, float]:
        """Seconds: `train_s`, `evaluation_s` and their `total_s`, with `_tta` for the evaluation with it, if any."""
        if self.train_s is None:
            return {}
        figures = {"train_s": self.train_s}
        for suffix, seconds in zip(("", "_tta"), self.evaluation_s, strict=False):
            figures |= {f"evaluation{suffix}_s": seconds, f"total{suffix}_s": self.train_s + seconds}
        return {name: round(seconds, 3) for name, seconds in figures.items()}


COLUMNS = ("epoch", "train_s", "val_s", "images_per_second")


def synchronise(device: torch.device) -> None:
    """Waits until `device` has done all that was asked of it; the CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


class Timing(Callback):
    """Notes the wall-clock seconds of each epoch's training and validation and the images trained on per second.

    Args:
        folder: where timings.csv goes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self.images_per_second = 0.0
        self._images = 0
        self._train_s = 0.0  # of this epoch, before it was interrupted
        self._val_s = 0.0
        self._started_at: float | None = None
        self._val_started_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a resume: the row of an epoch that goes on is dropped."""
        if trainer.ckpt_path:
            self.rows = self.rows[: trainer.current_epoch]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock starts."""
        self._images, self._train_s, self._val_s = 0, 0.0, 0.0
        self._started_at = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """An epoch resumed in the middle has no start of its own: its clock goes on with the first batch."""
        if self._started_at is None:
            self._started_at = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the images."""
        self._images += len(batch[1]) * trainer.world_size

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is timed apart, and begins when what was asked of a GPU in training is done."""
        synchronise(pl_module.device)
        self._val_started_at = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds up the validation."""
        self._val_s += time.perf_counter() - self._val_started_at

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the row."""
        synchronise(pl_module.device)
        train_s = self._elapsed_s() - self._val_s
        self._started_at = None
        self.images_per_second = self._images / train_s
        self.rows.append(
            {
                "epoch": float(trainer.current_epoch + 1),
                "train_s": round(train_s, 3),
                "val_s": round(self._val_s, 3),
                "images_per_second": round(self.images_per_second, 1),
            }
        )
        write_csv(self.folder / "timings.csv", COLUMNS, self.rows)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint, with what the running epoch has taken so far."""
        return {"rows": self.rows, "images": self._images, "train_s": self._elapsed_s(), "val_s": self._val_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = list(state_dict["rows"])
        self._images, self._train_s, self._val_s = state_dict["images"], state_dict["train_s"], state_dict["val_s"]

    def _elapsed_s(self) -> float:
        return self._train_s + (time.perf_counter() - self._started_at if self._started_at is not None else 0.0)
