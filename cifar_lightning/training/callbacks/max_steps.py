"""MaxSteps: ends a training after a number of optimizer steps, so that it still resumes exactly."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class MaxSteps(Callback):
    """Takes the place of Lightning's own limit for `trainer.max_steps`.

    With that one Lightning resumes by counting steps: from a checkpoint of an epoch's end it repeats that end, and
    never trains on the next epoch's images. An epoch that is cut here is validated, saved and counted as an epoch, as
    with `trainer.max_time`; a run that goes on with a higher limit begins the next one.

    Args:
        max_steps: of the whole training, those before a resume included.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """There may be nothing left to do."""
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *others: Any) -> None:
        """Ends the training after the last step."""
        self.on_train_start(trainer, pl_module)
