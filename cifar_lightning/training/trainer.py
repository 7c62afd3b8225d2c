"""The Trainer of a verb, and the callbacks that `fit` trains with: curves, timing, progress, checkpoints, signals."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler

from cifar_lightning import process
from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs import run_dir
from cifar_lightning.runs.checkpoint import SafeCheckpointIO
from cifar_lightning.runs.record import RunRecord
from cifar_lightning.training.callbacks.checkpoint import checkpoints
from cifar_lightning.training.callbacks.compile_warmup import CompileWarmUp
from cifar_lightning.training.callbacks.graceful_stop import StopSignals
from cifar_lightning.training.callbacks.learning_curves import LearningCurves
from cifar_lightning.training.callbacks.max_steps import MaxSteps
from cifar_lightning.training.callbacks.nan_guard import FiniteGuard
from cifar_lightning.training.callbacks.progress import ProgressLines
from cifar_lightning.training.callbacks.run_state import ResumeState
from cifar_lightning.training.callbacks.scorer import Scorer
from cifar_lightning.training.callbacks.tensorboard import RunTensorBoard
from cifar_lightning.training.callbacks.timer import SpeedClock, Timing

IDENTITY = ("recipe", "seed", "source", "synthetic")  # what a checkpoint says of its run


class Assembly(NamedTuple):
    """A Trainer and the callbacks whose figures are read when it has run."""

    trainer: Trainer
    timing: Timing
    curves: LearningCurves
    scorer: Scorer
    speed: SpeedClock
    signals: StopSignals


def assemble(experiment: Experiment, folder: Path, record: RunRecord, changes: dict[str, Any]) -> Assembly:
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
    last = folder / run_dir.CHECKPOINTS / "last.ckpt"
    timing, scorer, speed = Timing(folder), Scorer(), SpeedClock()
    title = f"{record.recipe}, seed {record.seed}, {record.source}"
    curves = LearningCurves(folder, timing, title, experiment.model.label_smoothing)
    callbacks: list[Callback] = [
        *([CompileWarmUp()] if experiment.model.compiles else []),
        guard := FiniteGuard(),
        speed,
        timing,
        curves,
        ProgressLines(curves, timing, guard, show_bar=settings.enable_progress_bar is not False),
        ResumeState(experiment.resolved_yaml, {key: getattr(record, key) for key in IDENTITY}, changes),
        signals := StopSignals(last if keeps_checkpoints else None),
        scorer,
    ]
    if keeps_checkpoints:
        callbacks += checkpoints(last.parent, has_validation=experiment.datamodule.val_size > 0)
    own = settings.logger not in (None, True)
    logger: Logger | bool = experiment.config_init.trainer.logger if own else RunTensorBoard(folder)
    return Assembly(build_trainer(experiment, callbacks, logger), timing, curves, scorer, speed, signals)


def build_trainer(experiment: Experiment, callbacks: list[Callback], logger: Logger | bool) -> Trainer:
    """Builds the Trainer of a configuration, with the user's callbacks before `callbacks`.

    Raises:
        ConfigError: Lightning refuses the settings, such as a GPU that is not there.
    """
    asked = experiment.config.trainer
    if asked.max_steps >= 0:
        experiment.model.max_steps = asked.max_steps
        callbacks = [MaxSteps(asked.max_steps), *callbacks]
    experiment.trainer_defaults["callbacks"] = callbacks
    # Our own bar is a plain callback; Lightning's stays off.
    settings: dict[str, Any] = {"logger": logger, "enable_progress_bar": False, "max_steps": -1}
    if asked.profiler is None:
        settings["profiler"] = NoProfiler()
    own = experiment.config_init.trainer.plugins or []
    settings["plugins"] = [*(own if isinstance(own, list) else [own]), SafeCheckpointIO(experiment.loaded)]
    try:
        trainer: Trainer = experiment.instantiate_trainer(**settings)
    except (ValueError, TypeError, ImportError, RuntimeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        if "accelerator" in reason or "backend" in reason:
            reason += "; without --trainer.accelerator what is there is used"
        raise ConfigError(f"trainer: {reason}") from error
    if trainer.world_size > 1 and not process.is_follower():
        _check_devices(experiment, trainer)
        process.announce(experiment.checkpoint)
    return trainer


def _check_devices(experiment: Experiment, trainer: Trainer) -> None:
    """Before the Trainer starts other processes, which would all complain."""
    if trainer.strategy.cluster_environment.creates_processes_externally:  # type: ignore[attr-defined]
        raise ConfigError(
            "start one process with --trainer.devices and nothing around it (no torchrun, no srun): "
            "the Trainer starts the others"
        )
    batch_size = experiment.datamodule.batch_size
    if experiment.verb == "fit" and batch_size % trainer.world_size:
        raise ConfigError(
            f"data.batch_size {batch_size} is that of all devices together and must be a multiple of their number, "
            f"{trainer.world_size}"
        )


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, like Lightning's default, without a new generator for each hook of each callback."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """A context that does nothing, the same one every time."""
        return self._nothing
