"""SpeedClock: how long a training takes, from its first step to its score."""

import time

from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.callbacks.timing import synchronise


class SpeedClock(Callback):
    """Wall-clock seconds of the training and of each evaluation at its end, about as speed records count them.

    The training's span begins before the first step's own preparations (the whitening of `Classifier`) and ends after
    the last epoch's last batch and its validation, if any; what happens between epochs counts: validations,
    checkpoints, and in a run of more than a minute TensorBoard's pictures. An evaluation's span begins before its first
    batch and ends when every image has its logits. Outside lie imports, reading the data, moving them to the device and
    padding them for crops, and the compilation that `CompileWarmUp` brings forward. To stand before the callbacks that
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
