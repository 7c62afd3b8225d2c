"""The Trainer of a run with everything on: curves, timing, progress, checkpoints, signals, TensorBoard."""

from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from cifar_lightning import runs
from cifar_lightning.callbacks.checkpoints import checkpoints
from cifar_lightning.callbacks.curves import LearningCurves
from cifar_lightning.callbacks.finite import FiniteGuard
from cifar_lightning.callbacks.progress import ProgressLines
from cifar_lightning.callbacks.resume_state import ResumeState
from cifar_lightning.callbacks.scorer import Scorer
from cifar_lightning.callbacks.signals import StopSignals
from cifar_lightning.callbacks.speed import SpeedClock
from cifar_lightning.callbacks.tensorboard import RunTensorBoard
from cifar_lightning.callbacks.timing import Timing
from cifar_lightning.callbacks.warm_up import CompileWarmUp
from cifar_lightning.config import Experiment

IDENTITY = ("recipe", "seed", "source", "synthetic")  # what a checkpoint says of its run


class Assembly(NamedTuple):
    """A Trainer and the callbacks whose figures are read when it has run."""

    trainer: Trainer
    timing: Timing
    curves: LearningCurves
    scorer: Scorer
    speed: SpeedClock
    signals: StopSignals


def assemble(experiment: Experiment, folder: Path, record: dict[str, Any], changes: dict[str, Any]) -> Assembly:
    """Builds what `fit` trains with.

    Args:
        experiment: the configuration.
        folder: the run's folder.
        record: of the run: `IDENTITY` is read.
        changes: the optimizer's settings to set once more after a resume.

    Raises:
        ConfigError: Lightning refuses the settings, such as a GPU that is not there.
    """
    settings = experiment.config.trainer
    keeps_checkpoints = settings.enable_checkpointing is not False and not settings.fast_dev_run
    last = folder / runs.CHECKPOINTS / "last.ckpt"
    timing, scorer, speed = Timing(folder), Scorer(), SpeedClock()
    title = f"{record['recipe']}, seed {record['seed']}, {record['source']}"
    curves = LearningCurves(folder, timing, title, experiment.model.label_smoothing)
    callbacks: list[Callback] = [
        *([CompileWarmUp()] if experiment.model.compiles else []),
        guard := FiniteGuard(),
        speed,
        timing,
        curves,
        ProgressLines(curves, timing, guard, show_bar=settings.enable_progress_bar is not False),
        ResumeState(experiment.resolved_yaml, {key: record[key] for key in IDENTITY}, changes),
        signals := StopSignals(last if keeps_checkpoints else None),
        scorer,
    ]
    if keeps_checkpoints:
        callbacks += checkpoints(last.parent, has_validation=experiment.datamodule.val_size > 0)
    own = settings.logger not in (None, True)
    logger: Logger | bool = experiment.config_init.trainer.logger if own else RunTensorBoard(folder)
    return Assembly(experiment.make_trainer(callbacks, logger), timing, curves, scorer, speed, signals)
