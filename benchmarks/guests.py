"""Which callbacks and loggers of Lightning, and which flags of its Trainer, `fit` works with.

    python -m benchmarks guests

runs `fit` with each of them on the sample, two short epochs of a tiny net. What trained is gone on with from its last
checkpoint for a third epoch, so that what config.yaml holds is read back, and tested. `results/guests.json` has the
outcomes, and `python -m benchmarks tables` the table in docs/callbacks.md.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks

from benchmarks.measure import conditions
from cifar_lightning.cli import main as cli
from cifar_lightning.runs.atomic import write_json

SMALL = [
    "--data.source=sample", "--data.val_size=500", "--data.batch_size=20", "--trainer.limit_train_batches=4",
    "--trainer.accelerator=cpu", "--trainer.precision=32-true", "--model.net.channels=[4,4,8]",
    "--model.net.hidden_features=[8,8]", "--trainer.max_epochs=2",
]  # fmt: skip
# The arguments of callbacks that need some.
ARGUMENTS: dict[str, dict[str, str]] = {
    "EarlyStopping": {"monitor": "val/loss"},
    "EMAWeightAveraging": {"update_starting_at_step": "100"},
    "GradientAccumulationScheduler": {"scheduling": "{0: 1, 1: 2}"},
    "LearningRateFinder": {"num_training_steps": "30", "early_stop_threshold": "null"},
    "BatchSizeFinder": {"max_trials": "2"},
    "ModelCheckpoint": {"monitor": "val/loss", "dirpath": "checkpoints_of_mine"},
    "ModelPruning": {"pruning_fn": "l1_unstructured", "amount": "0.1"},
    "OnExceptionCheckpoint": {"dirpath": "checkpoints_of_mine"},
    "StochasticWeightAveraging": {"swa_lrs": "0.1"},
    "ThroughputMonitor": {"batch_size_fn": "builtins.len"},
    "Timer": {"duration": "00:01:00:00"},
}
LOGGERS: dict[str, dict[str, str]] = {
    "CSVLogger": {"save_dir": "csv"},
    "MLFlowLogger": {"tracking_uri": "sqlite:///mlflow.db"},
    "TensorBoardLogger": {"save_dir": "board"},
    "WandbLogger": {"offline": "true", "save_dir": "wandb_of_mine"},
}
FLAGS = {
    "accumulate_grad_batches": "2", "barebones": "true", "benchmark": "true", "check_val_every_n_epoch": "2",
    "detect_anomaly": "true", "deterministic": "true", "devices": "1", "enable_autolog_hparams": "false",
    "enable_checkpointing": "false", "enable_model_summary": "true", "enable_progress_bar": "false",
    "fast_dev_run": "true", "gradient_clip_algorithm": "value", "gradient_clip_val": "0.5", "inference_mode": "false",
    "limit_predict_batches": "2", "limit_test_batches": "2", "limit_train_batches": "3", "limit_val_batches": "1",
    "log_every_n_steps": "1", "max_epochs": "1", "max_steps": "5", "max_time": "00:01:00:00", "min_epochs": "1",
    "min_steps": "2", "model_registry": "null", "num_nodes": "1", "num_sanity_val_steps": "1", "overfit_batches": "2",
    "plugins": "AsyncCheckpointIO", "precision": "16-mixed", "profiler": "simple",
    "reload_dataloaders_every_n_epochs": "1", "strategy": "ddp", "sync_batchnorm": "true",
    "use_distributed_sampler": "false", "val_check_interval": "2",
}  # fmt: skip


def cases() -> dict[str, dict[str, list[str]]]:
    """Every case by its kind and name, with its flags."""
    callbacks = {
        name: [f"--trainer.callbacks+={name}", *_flags("callbacks", ARGUMENTS.get(name, {}))]
        for name in sorted(lightning.pytorch.callbacks.__all__)
    }
    loggers = {name: [f"--trainer.logger={name}", *_flags("logger", given)] for name, given in LOGGERS.items()}
    flags = {name: [f"--trainer.{name}={value}"] for name, value in FLAGS.items()}
    return {"callbacks": callbacks, "loggers": loggers, "flags": flags}


def attempt(flags: list[str], folder: Path) -> dict[str, Any]:
    """Runs `fit` with flags in an empty folder, then goes on with it and tests it.

    Returns `flags`, `outcome` ('works', 'refused' before training, or 'failed') and, where it does not work, `reason`.
    """
    before = Path.cwd()
    os.chdir(folder)
    try:
        exit_code, error = _call("fit", *SMALL, *flags)
        if exit_code:
            is_refused = exit_code == 2 and not list(Path().glob("lightning_logs/*/*"))
            return {"flags": flags, "outcome": "refused" if is_refused else "failed", "reason": error}
        steps = [("fit", "--ckpt", "last", "--trainer.max_epochs=3"), ("test", "--ckpt", "last")]
        for step in steps if list(Path().glob("lightning_logs/*/*/checkpoints/last.ckpt")) else []:
            trusted = [flag.partition("=")[2] for flag in flags if "=builtins." in flag]
            given = [part for name in trusted for part in ("--trainer.callbacks.batch_size_fn", name)]
            exit_code, error = _call(*step, *given)
            if exit_code:
                return {"flags": flags, "outcome": "failed", "reason": f"{' '.join(step)}: {error}"}
        return {"flags": flags, "outcome": "works"}
    finally:
        os.chdir(before)


def _flags(group: str, given: dict[str, str]) -> list[str]:
    return [f"--trainer.{group}.{name}={value}" for name, value in given.items()]


def _call(*arguments: str) -> tuple[int, str]:
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        exit_code = cli(arguments)
    lines = [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]
    return exit_code, lines[-1].removeprefix("error: ") if lines else ""


def main(argv: list[str]) -> int:
    """Runs, writes and says what failed."""
    parser = argparse.ArgumentParser("python -m benchmarks guests", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/guests.json"))
    parser.add_argument("names", nargs="*", help="these alone, in place of what is recorded of them")
    options = parser.parse_args(argv)
    recorded: dict[str, Any] = conditions("cpu")
    if options.names:
        recorded = json.loads(options.output.read_text(encoding="utf-8"))
    for kind, named in cases().items():
        recorded.setdefault(kind, {})
        for name, flags in named.items():
            if not options.names or name in options.names:
                with tempfile.TemporaryDirectory() as folder:
                    recorded[kind][name] = attempt(flags, Path(folder))
                write_json(options.output, recorded)
                print(name, *recorded[kind][name].values(), sep="  ", flush=True)
    outcomes = [case["outcome"] for kind in cases() for case in recorded[kind].values()]
    return int("failed" in outcomes)
