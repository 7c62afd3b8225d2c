"""FollowUntilAveraged: an average that has not begun is the weights themselves."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging


class FollowUntilAveraged(Callback):
    """Keeps Lightning's average at the trained weights until its first update (Lightning issue 21724).

    By itself it holds the initial weights until then, and these are validated, saved and scored. To stand before it.

    Args:
        averaging: the callback that averages.
    """

    def __init__(self, averaging: WeightAveraging) -> None:
        self.averaging = averaging

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the average is validated."""
        average = self.averaging._average_model
        if average is not None and not average.n_averaged:
            average.module.load_state_dict(pl_module.state_dict())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Before it is saved."""
        self.on_validation_epoch_start(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before it takes the place of the weights."""
        self.on_validation_epoch_start(trainer, pl_module)
