"""Which checkpoints a run keeps: `last.ckpt` of every epoch and every 5 minutes, `best.ckpt` by validation."""

import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cifar_lightning import distributed

SAVE_EVERY_S = 300.0  # what a crash costs at most, where an epoch takes longer


def is_between_steps(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a checkpoint written after this batch can be resumed exactly.

    Not after an epoch's last batch, which the batch is as well where the training has been told to stop, nor any after
    which validation is due: Lightning would resume past it. Not between two batches whose gradients are added up:
    gradients are not part of a checkpoint.
    """
    done = batch_idx + 1
    # Without check_val_every_n_epoch Lightning counts the batches from one validation to the next over the epochs.
    counted = done if trainer.check_val_every_n_epoch is not None else trainer.fit_loop.total_batch_idx + 1
    is_validated_next = done >= trainer.num_training_batches or counted % (trainer.val_check_batch or math.inf) == 0
    return not is_validated_next and not trainer.should_stop and done % trainer.accumulate_grad_batches == 0


class EpochCheckpoint(ModelCheckpoint):
    """Writes `<name>.ckpt` into `folder` at the end of epochs: of each, or of the best by `monitor`.

    At the epoch's end and not at the validation's, so that the file holds the epoch's row as well.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None = None, mode: str = "min") -> None:
        settings: dict[str, Any] = {
            "every_n_epochs": 1,
            "save_on_train_epoch_end": True,
            "enable_version_counter": False,
        }
        super().__init__(folder, name, monitor, mode=mode, **settings)
        self._name = name

    @property
    def state_key(self) -> str:
        """The file's name. Lightning asks at every hook of every step, and composes its own answer each time."""
        return self._name

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint, also where the run's folder has been moved.

        Lightning forgets the best score then, and the next epoch would replace a better one. In a new run's folder,
        where there is no file yet, it should.
        """
        assert self.dirpath is not None
        folder = Path(self.dirpath)

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        if (folder / f"{self._name}.ckpt").is_file():
            paths = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path")}
            scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
            state_dict = {**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": scores}
        super().load_state_dict(state_dict)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Nothing, where Lightning's own asks several questions at every step."""


class LastCheckpoint(EpochCheckpoint):
    """`last.ckpt` of each epoch, and every `SAVE_EVERY_S` at the next batch from which a run can go on exactly."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "last")
        self._path = folder / "last.ckpt"
        self._saved_at = 0.0
        self._is_due = False  # the same in every process

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """There is nothing to save yet."""
        self._saved_at = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The end of the epoch before has saved."""
        self._saved_at, self._is_due = time.monotonic(), False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time."""
        is_late = time.monotonic() - self._saved_at >= SAVE_EVERY_S
        self._is_due = self._is_due or distributed.decide(trainer, batch_idx, is_late)
        if self._is_due and is_between_steps(trainer, batch_idx):
            trainer.save_checkpoint(self._path)
            self._saved_at, self._is_due = time.monotonic(), False
