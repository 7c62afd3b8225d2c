"""GracefulStop: Ctrl-C, SIGTERM and their like end a run where it can be resumed exactly, not within a step."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning import distributed, process
from cifar_lightning.errors import UserError
from cifar_lightning.training.callbacks.checkpoint import is_between_steps


class Stopped(UserError):  # noqa: N818 -- nothing went wrong
    """The user ended the run; everything up to here is in its last checkpoint."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class GracefulStop(Callback):
    """Notes the first signal, saves `last.ckpt` at the end of the running batch and stops; the second stops at once.

    Nothing is saved in a signal handler: weights, loader and counters agree only between two batches. A signal during
    validation waits for the epoch's end, whose checkpoint is due anyway.

    Args:
        checkpoint: where to save; None where the run keeps no checkpoints.
    """

    def __init__(self, checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint
        self.received: int | None = None
        self._is_stopping = False  # the same in every process
        self._when = ""
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over; later than Lightning, whose own SIGTERM handler ends a run with exit code 0."""
        self._when = "after this batch" if trainer.world_size == 1 else f"within {distributed.COMPARE_EVERY} batches"
        self._previous = process.handle_signals(self._note)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives them back."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A signal during validation: the epoch's checkpoint has just been written."""
        self._stop_if_asked(trainer, f"after epoch {trainer.current_epoch}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A signal during training."""
        self._is_stopping = self._is_stopping or distributed.decide(trainer, batch_idx, self.received is not None)
        if self._is_stopping and is_between_steps(trainer, batch_idx):
            if self.checkpoint is not None:
                trainer.save_checkpoint(self.checkpoint)
            self._stop_if_asked(trainer, f"in epoch {trainer.current_epoch + 1}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A signal in the very last epoch, or while its curves are drawn: before the test begins."""
        self._stop_if_asked(trainer, f"after the last epoch, {trainer.current_epoch}, before the test")

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Stopped("stopped at once: the last checkpoint is of an earlier batch", signum)
        self.received = signum
        if signum == getattr(signal, "SIGHUP", None):
            process.leave_closed_terminal()
        if process.is_rank_zero():
            print(f"{signal.Signals(signum).name}: stopping {self._when} (once more: at once)", file=sys.stderr)

    def _stop_if_asked(self, trainer: Trainer, where: str) -> None:
        received = next(filter(None, distributed.gathered(self.received)), None)  # by any process, which is as good
        if received is None:
            return
        if self.checkpoint is None:
            raise Stopped("stopped; this run keeps no checkpoints", received)
        raise Stopped(f"stopped {where}; go on with: python -m cifar_lightning fit --ckpt {self.checkpoint}", received)
