"""AfterFirstEpoch: what can wait until a run has shown its first result."""

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer


class AfterFirstEpoch(Callback):
    """Calls `work` once, at the end of the first epoch that ends in this process.

    Args:
        work: takes a second or so, which would keep the user waiting for the first step.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.work: Callable[[], None] | None = work

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does the work."""
        if self.work is not None and trainer.is_global_zero:
            self.work()
        self.work = None
