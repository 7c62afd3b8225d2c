"""RunTimer: wall-clock time of each epoch, of the whole training and of each test."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.runs.atomic import write_csv

COLUMNS = ("epoch", "train_s", "val_s", "images_per_second")


def synchronise(device: torch.device) -> None:
    """Waits until `device` has done all that was asked of it; the CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


class RunTimer(Callback):
    """Writes timings.csv, a row per epoch, apart from the deterministic metrics.csv; `speed` is as speed records count.

    The training's span begins before the first step's own preparations (the whitening of `Classifier`) and ends after
    the last epoch's last batch and its validation, if any; what happens between epochs counts: validations and
    checkpoints. A test's span begins before its first batch and ends when every image has its logits. Outside lie
    imports, reading the data, moving them to the device and padding them for crops, the compilation that
    `CompileWarmup` brings forward, and drawing. To stand before the callbacks that write at the end of an epoch.

    Args:
        folder: where timings.csv goes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self.images = 0  # trained on in this epoch, by all processes together
        self._train_s: float | None = None  # of the training; None for a resumed one: nobody knows how long it stood
        self._tests_s: list[float] = []
        self._val_s = 0.0  # of this epoch
        self._earlier_s = 0.0  # of this epoch, before it was interrupted
        self._started_at = self._epoch_started_at = self._evaluation_started_at = 0.0
        self._is_whole = False

    @property
    def state_key(self) -> str:
        """The name that this class had when the oldest checkpoints were written."""
        return "Timing"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock starts; after a resume the row of an epoch that goes on is dropped."""
        if trainer.ckpt_path:
            self.rows = self.rows[: trainer.current_epoch]
        self._is_whole = trainer.global_step == 0
        self._started_at = self._epoch_started_at = self._now(pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch's clock starts; that of an epoch resumed in the middle goes on and does not come by here."""
        self.images, self._earlier_s, self._val_s = 0, 0.0, 0.0
        self._epoch_started_at = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the images."""
        self.images += len(batch[1]) * trainer.world_size

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is timed apart, and begins when what was asked of a GPU in training is done."""
        self._evaluation_started_at = self._now(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds up the validation."""
        self._val_s += time.perf_counter() - self._evaluation_started_at

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the row. If another epoch follows, the training's clock will have stopped later."""
        now = self._now(pl_module)
        if self._is_whole:
            self._train_s = now - self._started_at
        train_s = self.epoch_s()
        self.rows.append(
            {
                "epoch": float(trainer.current_epoch + 1),
                "train_s": round(train_s, 3),
                "val_s": round(self._val_s, 3),
                "images_per_second": round(self.images / train_s, 1),
            }
        )
        write_csv(self.folder / "timings.csv", COLUMNS, self.rows)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The test's clock starts."""
        self._evaluation_started_at = self._now(pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The test's clock stops."""
        self._tests_s.append(self._now(pl_module) - self._evaluation_started_at)

    def epoch_s(self) -> float:
        """Seconds of training in this epoch so far, without validation."""
        return self._earlier_s + time.perf_counter() - self._epoch_started_at - self._val_s

    def speed(self) -> dict[str, float]:
        """Seconds: `train_s`, `evaluation_s` and their `total_s`, with `_tta` for the test with it, if any.

        Empty for a training that was resumed.
        """
        if self._train_s is None:
            return {}
        figures = {"train_s": self._train_s}
        for suffix, seconds in zip(("", "_tta"), self._tests_s, strict=False):
            figures |= {f"evaluation{suffix}_s": seconds, f"total{suffix}_s": self._train_s + seconds}
        return {name: round(seconds, 3) for name, seconds in figures.items()}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint, with what the running epoch has taken so far (`train_s` with its validation)."""
        return {"rows": self.rows, "images": self.images, "train_s": self.epoch_s() + self._val_s, "val_s": self._val_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = list(state_dict["rows"])
        self.images, self._earlier_s, self._val_s = (state_dict[name] for name in ("images", "train_s", "val_s"))

    @staticmethod
    def _now(pl_module: LightningModule) -> float:
        """The time when the device has done all that was asked of it."""
        synchronise(pl_module.device)
        return time.perf_counter()
