"""Which checkpoints a run keeps: `last.ckpt` of every epoch and every 5 minutes, `best.ckpt` by validation."""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cifar_lightning import ranks

SAVE_EVERY = timedelta(minutes=5)  # what a crash costs at most, where an epoch takes longer


def is_between_steps(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a checkpoint written after this batch can be resumed exactly.

    Not after an epoch's last batch, nor any after which validation is due: Lightning would resume past it. Not between
    two batches whose gradients are added up: gradients are not part of a checkpoint.
    """
    done = batch_idx + 1
    is_validated_next = done >= trainer.num_training_batches or done % (trainer.val_check_batch or math.inf) == 0
    return not is_validated_next and done % trainer.accumulate_grad_batches == 0


class NamedCheckpoint(ModelCheckpoint):
    """A checkpoint callback known by its file's name.

    Lightning asks for the key in every hook of every step, and puts its own together anew each time.
    """

    @property
    def state_key(self) -> str:
        """The name of the file that it writes."""
        assert self.filename is not None
        return self.filename


class TimedCheckpoint(NamedCheckpoint):
    """Saves in the middle of an epoch, at the first batch after its time from which a run can go on exactly."""

    @property
    def state_key(self) -> str:
        """Apart from that of each epoch, which writes the same file."""
        return f"timed {self.filename}"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time."""
        if ranks.is_time_to_compare(trainer, batch_idx) and is_between_steps(trainer, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def checkpoints(folder: Path, has_validation: bool) -> list[Callback]:
    """Lightning's callbacks that write into `folder`; 'best' is the highest `val/accuracy`, the earlier on a tie."""
    last: dict[str, Any] = {"dirpath": folder, "filename": "last", "enable_version_counter": False}
    callbacks: list[Callback] = []
    if has_validation:
        # Before `last`, whose file holds the best score so far: without it a resumed run would replace the best epoch.
        callbacks.append(
            NamedCheckpoint(
                dirpath=folder,
                filename="best",
                enable_version_counter=False,
                monitor="val/accuracy",
                mode="max",
                # At the epoch's end and not at the validation's, so that the file holds the epoch's row as well.
                save_on_train_epoch_end=True,
            )
        )
    callbacks.append(NamedCheckpoint(**last, every_n_epochs=1, save_on_train_epoch_end=True))
    callbacks.append(TimedCheckpoint(**last, train_time_interval=SAVE_EVERY))
    return callbacks
