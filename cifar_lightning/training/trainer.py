"""The Trainer of a verb, and the callbacks that `fit` trains with: curves, timing, progress, checkpoints, signals."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar, WeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler

from cifar_lightning import process
from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError
from cifar_lightning.rendezvous import RendezvousDDP, cluster_environment
from cifar_lightning.runs import run_dir
from cifar_lightning.runs.checkpoint import SafeCheckpointIO
from cifar_lightning.runs.record import RunRecord
from cifar_lightning.training.callbacks.averaging import FollowUntilAveraged
from cifar_lightning.training.callbacks.checkpoint import EpochCheckpoint, LastCheckpoint
from cifar_lightning.training.callbacks.compile_warmup import CompileWarmup
from cifar_lightning.training.callbacks.graceful_stop import GracefulStop
from cifar_lightning.training.callbacks.learning_curves import LearningCurves
from cifar_lightning.training.callbacks.max_steps import MaxSteps
from cifar_lightning.training.callbacks.nan_guard import NanGuard
from cifar_lightning.training.callbacks.progress import ProgressLines
from cifar_lightning.training.callbacks.run_state import RunState
from cifar_lightning.training.callbacks.tensorboard import RunTensorBoard, name_run
from cifar_lightning.training.callbacks.timer import RunTimer

IDENTITY = ("recipe", "seed", "source")  # what a checkpoint says of its run


class Assembly(NamedTuple):
    """A Trainer and the callbacks whose figures are read when it has run."""

    trainer: Trainer
    timer: RunTimer
    curves: LearningCurves


def assemble(experiment: Experiment, folder: Path, record: RunRecord, changes: dict[str, Any]) -> Assembly:
    """Builds what `fit` trains with.

    Args:
        experiment: the configuration.
        folder: the run's folder.
        record: of the run: `IDENTITY` is read.
        changes: the optimizer's settings to set once more after a resume.

    Raises ConfigError: Lightning refuses the settings, such as a GPU that is not there.
    """
    settings = experiment.config.trainer
    keeps_checkpoints = settings.enable_checkpointing is not False and not settings.fast_dev_run
    last = folder / run_dir.CHECKPOINTS / "last.ckpt"
    title = f"{record.recipe}, seed {record.seed}, {record.source}"
    callbacks: list[Callback] = [
        *([CompileWarmup()] if experiment.model.compiles else []),
        guard := NanGuard(),
        timer := RunTimer(folder),
        curves := LearningCurves(folder, timer, title, experiment.model.label_smoothing),
        ProgressLines(curves, timer, guard, show_bar=settings.enable_progress_bar is not False),
        RunState(experiment.resolved_yaml, {key: getattr(record, key) for key in IDENTITY}, changes),
        GracefulStop(last if keeps_checkpoints else None),
    ]
    if keeps_checkpoints:
        # Best before last, whose file holds the best score so far: without it a resumed run would replace the best.
        if experiment.datamodule.val_size > 0:  # the earlier epoch on a tie
            callbacks.append(EpochCheckpoint(last.parent, "best", monitor="val/accuracy", mode="max"))
        callbacks.append(LastCheckpoint(last.parent))
    given = experiment.config_init.trainer.logger
    loggers = [] if given in (None, True, False) else [given] if isinstance(given, Logger) else list(given)
    for logger in loggers:
        name_run(logger, f"{folder.parent.name}/{folder.name}")
    board = [] if given is False else [RunTensorBoard(folder)]
    return Assembly(build_trainer(experiment, callbacks, [*board, *loggers]), timer, curves)


def build_trainer(experiment: Experiment, callbacks: list[Callback], logger: list[Logger] | bool) -> Trainer:
    """Builds the Trainer of a configuration, with the user's callbacks before `callbacks`.

    Raises ConfigError: Lightning refuses the settings, such as a GPU that is not there.
    """
    asked = experiment.config.trainer
    experiment.model.logs = False
    if asked.max_steps >= 0:
        experiment.model.max_steps = asked.max_steps
        callbacks = [MaxSteps(asked.max_steps), *callbacks]
    experiment.trainer_defaults["callbacks"] = callbacks
    has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    settings: dict[str, Any] = {"logger": logger, "enable_progress_bar": has_bar, "max_steps": -1}
    if asked.profiler is None:
        settings["profiler"] = NoProfiler()
    own = experiment.config_init.trainer.plugins or []
    plugins = [*(own if isinstance(own, list) else [own]), SafeCheckpointIO(experiment.loaded)]
    if any(isinstance(plugin, CheckpointIO) for plugin in plugins[:-1]):
        raise ConfigError("trainer.plugins: fit writes its checkpoints itself, whole and exact; leave out CheckpointIO")
    # Where this is set, Lightning begins from any hpc_ckpt_1.ckpt of the logs, also in a job's shell.
    os.environ.pop("SLURM_NTASKS", None)
    settings["plugins"] = [*plugins, cluster_environment()]
    try:
        trainer: Trainer = experiment.instantiate_trainer(**settings)
    except (ValueError, TypeError, ImportError, RuntimeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error
    installed: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in [callback for callback in installed if isinstance(callback, WeightAveraging)]:
        installed.insert(installed.index(callback), FollowUntilAveraged(callback))
    batch_size = experiment.datamodule.batch_size
    if experiment.verb == "fit" and batch_size % trainer.world_size:
        raise ConfigError(
            f"data.batch_size {batch_size} is that of all devices together and must be a multiple of their number, "
            f"{trainer.world_size}"
        )
    if isinstance(trainer.strategy, RendezvousDDP):
        os.environ[process.PER_NODE] = str(trainer.num_devices)
        trainer.strategy.common = experiment.digests()
    return trainer


@contextmanager
def products_as_exact_as(precision: str) -> Iterator[None]:
    """Under 'bf16-mixed' torch may compute products of float32 in bfloat16: Muon's, which autocast does not reach.

    They cost less. At the end the setting is what it was.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "bf16-mixed" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, like Lightning's default, without a new generator for each hook of each callback."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """A context that does nothing, the same one every time."""
        return self._nothing
