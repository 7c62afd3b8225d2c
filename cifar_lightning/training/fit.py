"""`fit`: from a configuration to a finished run with its folder, its curves and its score."""

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

from cifar_lightning.config.parser import Experiment
from cifar_lightning.data.sampler import dropped_images
from cifar_lightning.errors import ConfigError, OutputError
from cifar_lightning.nets.summary import LayerTable
from cifar_lightning.process import is_rank_zero, terminal_may_close
from cifar_lightning.rendezvous import OtherRankError, remember
from cifar_lightning.runs import figures, run_dir
from cifar_lightning.runs.atomic import write_text
from cifar_lightning.runs.record import RunRecord, write_record
from cifar_lightning.runs.settings import flat
from cifar_lightning.training.callbacks.graceful_stop import Stopped
from cifar_lightning.training.callbacks.tensorboard import RunTensorBoard
from cifar_lightning.training.checks import check_net, check_resume, check_single_images
from cifar_lightning.training.console import introduce
from cifar_lightning.training.evaluate import save_figures, score, summary_line
from cifar_lightning.training.opening import CONFIG, Files, open_run, snapshot, timestamp, withdraw
from cifar_lightning.training.trainer import Assembly, assemble, products_as_exact_as


def fit(arguments: list[str]) -> int:
    """Trains, writes the run's folder and scores the last epoch's weights on the test set once.

    Raises UserError: with the exit code of its kind.
    """
    experiment = Experiment("fit", arguments)
    data = experiment.datamodule
    data.prepare_data()
    experiment.config.data.source = "sample" if data.is_sample else "official"  # what this run and its resumes use
    data.setup("fit")
    changes = check_resume(experiment)
    layers = check_net(experiment)
    with contextlib.ExitStack() as held:
        folder, record = open_run(experiment, held)
        earlier = snapshot(folder) if record.resumed else None
        try:
            if is_rank_zero():
                remember(folder / run_dir.CHECKPOINTS / "last.ckpt")
            parts = assemble(experiment, folder, record, changes)
            check_single_images(experiment, parts.trainer)
        except BaseException:
            withdraw(folder, earlier)
            raise
        with products_as_exact_as(experiment.config.trainer.precision):
            _train(experiment, parts, folder, record, layers, earlier)
    return 0


def _train(
    experiment: Experiment, parts: Assembly, folder: Path, record: RunRecord, layers: LayerTable, earlier: Files | None
) -> None:
    data, loaded = experiment.datamodule, experiment.loaded
    record.data, record.parameters = data.sizes, layers.parameters
    record.dropped_per_epoch = dropped_images(data.sizes["train"], data.batch_size, parts.trainer.world_size)
    write_record(folder, record)
    write_text(folder / CONFIG, experiment.resolved_yaml)
    started = replace(record)
    try:
        if is_rank_zero():
            with terminal_may_close():
                introduce(experiment, parts.trainer, folder, layers, record)
        _tell_settings(parts.trainer, record, folder)
        parts.trainer.fit(experiment.model, datamodule=data, ckpt_path=experiment.checkpoint, weights_only=True)
        _finish(experiment, parts, folder, record)
    except BaseException as error:
        status = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit, Stopped)) else "failed"
        with contextlib.suppress(OutputError):  # on a full disk the first error is the one to tell
            write_record(folder, replace(started, status=status, error=f"{type(error).__name__}: {error}"))
        has_trained = parts.trainer.global_step > (loaded.content["global_step"] if loaded else 0)
        callbacks = experiment.config.trainer.callbacks
        setting = "trainer" if _is_late_complaint(error, has_trained) else ""
        if callbacks and not has_trained and isinstance(error, (AttributeError, NotImplementedError, TypeError)):
            setting = "trainer.callbacks"  # which ask something else of the model
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            setting = "model.compile: torch.compile failed here, go on without it"
        has_begun = has_trained if earlier is not None else len(parts.curves.rows) > (loaded.epochs if loaded else 0)
        if (setting or isinstance(error, (ConfigError, OtherRankError))) and not has_begun:
            withdraw(folder, earlier)
        if setting:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"{setting}: {reason}") from error
        raise


def _own_loggers(trainer: Trainer) -> list[Logger]:
    """The user's, beside ours."""
    return [logger for logger in trainer.loggers if not isinstance(logger, RunTensorBoard)]


def _tell_settings(trainer: Trainer, record: RunRecord, folder: Path) -> None:
    """Gives the user's loggers what tells runs apart. Raises ConfigError where one cannot be reached."""
    for logger in _own_loggers(trainer):
        try:
            logger.log_hyperparams(flat(record.config) | {"run": f"{folder.parent.name}/{folder.name}"})
        except Exception as error:  # of whatever kind their packages raise, without a login for instance
            name = type(logger).__name__
            raise ConfigError(f"trainer.logger: {name} cannot start: {' '.join(str(error).split())}") from error


def _tell_score(trainer: Trainer, metrics: dict[str, Any]) -> None:
    """Gives the user's loggers the test's figures."""
    figures = {
        f"{split}/{name}": metrics[split][name]
        for split in ("test", "test_tta")
        if split in metrics
        for name in ("accuracy", "loss", "calibration_error")
    }
    for logger in _own_loggers(trainer) if figures else []:
        logger.log_metrics(figures, step=metrics["epochs"])
        logger.save()


def _finish(experiment: Experiment, parts: Assembly, folder: Path, record: RunRecord) -> None:
    """The final score, the record and TensorBoard's last entries."""
    trainer, timer, curves = parts
    if experiment.loaded is not None and trainer.global_step == experiment.loaded.content["global_step"]:
        # No step was left to take, and then Lightning's averaging leaves the last weights in place of the average.
        experiment.loaded.load_into(experiment.model)
    record.speed = {}  # not of the training before it was extended
    metrics: dict[str, Any] = {"epochs": len(curves.rows), **({"last_epoch": curves.rows[-1]} if curves.rows else {})}
    if experiment.config.trainer.fast_dev_run:
        print("test    not scored: fast_dev_run tries the code on a few batches, and the test set is scored whole")
    elif experiment.config.final_test and curves.rows:  # with max_epochs 0 there are no trained weights to score
        scored = score(experiment, trainer, "test")
        metrics["test"] = asdict(scored.evaluation)
        print(summary_line("test", scored.evaluation, f"the weights of epoch {len(curves.rows)}"))
        if trainer.is_global_zero:
            save_figures(experiment.datamodule, scored, folder, trainer.logger, epoch=len(curves.rows))
        if experiment.model.tta.views != "none":
            augmented = score(experiment, trainer, "test", experiment.model.tta).evaluation
            metrics["test_tta"] = {"views": str(experiment.model.tta), **asdict(augmented)}
            print(summary_line("test", augmented, f"the same weights, TTA {experiment.model.tta}"))
        if took := timer.speed():
            record.speed = took
            spans = f"{took['train_s']:.2f} s training, {took['evaluation_s']:.2f} s evaluation"
            tta = f"; {took['total_tta_s']:.2f} s with TTA" if "total_tta_s" in took else ""
            print(f"speed   {took['total_s']:.2f} s from the first step to the score ({spans}){tta}")
    elif not curves.rows:
        print("nothing was trained: the settings leave no step to take")
    board = trainer.logger if isinstance(trainer.logger, RunTensorBoard) else None
    if board and trainer.is_global_zero and record.finished_at is None:  # a finished run that is extended has it
        # Now and not earlier: drawing takes a good part of the time of a short training.
        samples = figures.sample_grid(*experiment.datamodule.images_of("train"), experiment.datamodule.class_names)
        board.experiment.add_figure("data/samples of each class", samples)
    _tell_score(trainer, metrics)
    record.status, record.error, record.finished_at, record.metrics = "finished", None, timestamp(), metrics
    record.data = experiment.datamodule.sizes
    record.timings = {name: round(sum(row[name] for row in timer.rows), 1) for name in ("train_s", "val_s")}
    write_record(folder, record)
    if board:
        board.log_result(record.config, metrics, len(curves.rows))
        board.finalize("success")
    print(f"curves  {f'tensorboard --logdir {experiment.logs}   or ' if board else ''}{folder / 'curves.png'}")
    if record.sample:
        print(f"NOTE    all figures are about {record.source} in the package; they are not results on CIFAR-10")


def _is_late_complaint(error: BaseException, has_trained: bool) -> bool:
    """Whether the settings are to blame: what Lightning and its callbacks only notice once they run."""
    if isinstance(error, MisconfigurationException) or "conditioned on metric" in str(error):
        return True
    return isinstance(error, (ValueError, ImportError)) and not has_trained
