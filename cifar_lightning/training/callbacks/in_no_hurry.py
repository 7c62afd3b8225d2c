"""InNoHurry: work that would keep the user waiting, done when nobody does."""

import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

PATIENCE_S = 60.0


class InNoHurry(Callback):
    """Calls `work` once in a run: at the end of the first epoch after a minute of training, or when the training ends.

    Args:
        work: takes a second or so, which a run of seconds would feel; None where there is nothing to do.
    """

    def __init__(self, work: Callable[[], None] | None) -> None:
        self.work = work
        self._started_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The minute begins."""
        self._started_at = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does the work if it is time."""
        if time.monotonic() - self._started_at >= PATIENCE_S:
            self._do(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does the work if it is not done."""
        self._do(trainer)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: a run that goes on does not do it again. What is done at the end is in none."""
        return {"done": self.work is None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        if state_dict["done"]:
            self.work = None

    def _do(self, trainer: Trainer) -> None:
        if self.work is not None and trainer.is_global_zero:
            self.work()
        self.work = None
