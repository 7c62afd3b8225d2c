"""Timing: seconds and throughput of each epoch, apart from the deterministic figures."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.files import write_csv

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
