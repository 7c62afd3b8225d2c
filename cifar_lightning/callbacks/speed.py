"""SpeedClock: how long a training takes, from its first step to its score."""

import time

from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.callbacks.timing import synchronise


class SpeedClock(Callback):
    """Wall-clock seconds as speed records count them: no imports, no reading of data, no compilation, no pictures.

    The training's span begins with what precedes its first step (such as `Classifier.on_train_batch_start`'s
    whitening) and ends with its last step; validations and checkpoints in between count. An evaluation's span begins
    with its first batch and ends when its score is known. To stand first among the callbacks, so that the others' work
    at the end of an epoch falls outside.
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
