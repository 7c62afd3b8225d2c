"""Callbacks, loggers and profilers of Lightning beside ours; benchmarks/guests.py tries every one of them."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.loggers import wandb
from run_folders import only_run, record_of
from tiny import TINY_FLAGS

from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError
from cifar_lightning.study.store import find_runs

Run = Callable[..., tuple[int, str, str]]
Fit = Callable[..., tuple[Path, str]]


def test_a_logger_of_the_users_stands_beside_ours(fit: Fit) -> None:
    folder, out = fit("--trainer.logger=CSVLogger", "--trainer.logger.save_dir=csv")
    assert list(folder.glob("events.out.tfevents.*"))
    assert "tensorboard --logdir" in out
    (own,) = Path("csv").glob("*/version_0")
    rows = list(csv.DictReader((own / "metrics.csv").open(encoding="utf-8")))
    test = record_of(folder)["metrics"]["test"]
    assert [row["test/accuracy"] for row in rows if row["test/accuracy"]] == [str(test["accuracy"])]
    assert len([row for row in rows if row["val/loss"]]) == 2
    settings = yaml.safe_load((own / "hparams.yaml").read_text(encoding="utf-8"))
    assert settings["data.batch_size"] == 8
    assert settings["run"] == f"{folder.parent.name}/{folder.name}"


def test_without_a_logger_the_last_line_names_no_tensorboard(fit: Fit) -> None:
    folder, out = fit("--trainer.logger=false")
    assert not list(folder.glob("events.out.tfevents.*"))
    assert "tensorboard" not in out


@pytest.mark.slow
def test_mlflow_gets_the_name_and_the_results(run: Run) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow: pip install mlflow")
    tracking = f"sqlite:///{Path('runs.db').absolute()}"
    flags = ["--trainer.logger=MLFlowLogger", f"--trainer.logger.tracking_uri={tracking}"]
    assert run("fit", *TINY_FLAGS, *flags)[0] == 0  # mlflow tells of its database on stderr
    folder = only_run()
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking)
    (found,) = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    assert found.info.run_name == f"{folder.parent.name}/{folder.name}"
    assert found.data.metrics["test/accuracy"] == pytest.approx(record_of(folder)["metrics"]["test"]["accuracy"])
    assert found.data.params["data.batch_size"] == "8"


class Missing:
    """As Lightning says that a package is not there."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "no module named wandb"


def test_a_missing_package_is_one_line_with_the_flag(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb, "_WANDB_AVAILABLE", Missing())
    exit_code, _, err = run("fit", *TINY_FLAGS, "--trainer.logger=WandbLogger")
    assert exit_code == 2
    assert err == "error: trainer.logger: WandbLogger: no module named wandb\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["EarlyStopping", "--trainer.callbacks.monitor=val/los"],
            "EarlyStopping watches 'val/los'; there is train/",
        ),
        (
            ["ModelCheckpoint", "--trainer.callbacks.monitor=val/loss", "--data.val_size=0"],
            "ModelCheckpoint watches 'val/loss'; there is train/loss, train/accuracy",
        ),
        (
            ["EarlyStopping", "--trainer.callbacks.monitor=val/loss", "--trainer.limit_val_batches=0"],
            "EarlyStopping watches 'val/loss'; there is train/loss, train/accuracy",
        ),
        (
            ["StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"],
            "trains an epoch more than",
        ),
        (["BatchSizeFinder"], "and give it as --data.batch_size"),
        (["BackboneFinetuning"], "--model.freeze and --model.head_lr train a part of any net"),
        (["RichProgressBar"], "RichProgressBar: fit has a bar of its own"),
    ],
)
def test_a_callback_that_cannot_work_is_refused_before_training(run: Run, flags: list[str], message: str) -> None:
    exit_code, out, err = run("fit", *TINY_FLAGS, f"--trainer.callbacks+={flags[0]}", *flags[1:])
    assert exit_code == 2
    assert message in err
    assert "epoch" not in out
    assert not list(Path("lightning_logs").glob("*/*"))


@pytest.mark.parametrize(
    "flags",
    [
        ["callbacks+=Timer"],
        ["callbacks+=Timer", "callbacks.duration=00:01:00:00"],
        ["callbacks+=EMAWeightAveraging", "callbacks.device=cpu"],
        ["callbacks+=RichModelSummary"],
        ["callbacks+=ModelCheckpoint", "callbacks.train_time_interval=0:10:00"],
        ["callbacks+=GradientAccumulationScheduler", "callbacks.scheduling={0: 1, 1: 2}"],
        ["logger=CSVLogger", "logger.save_dir=x"],
        ["profiler=PyTorchProfiler"],
    ],
)
def test_what_is_recorded_is_read_back(flags: list[str], tmp_path: Path) -> None:
    written = Experiment("fit", ["--data.source=sample", *(f"--trainer.{flag}" for flag in flags)]).resolved_yaml
    (tmp_path / "config.yaml").write_text(written, encoding="utf-8")
    assert Experiment("fit", ["--config", str(tmp_path / "config.yaml")]).resolved_yaml == written
    assert "Unable to serialize" not in written


def test_a_default_that_is_an_object_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_lightning.config.parser.check_settings", lambda *arguments: None)
    flags = ["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"]
    written = Experiment("fit", ["--data.source=sample", *flags]).resolved_yaml
    assert "device" not in yaml.safe_load(written)["trainer"]["callbacks"][0]["init_args"]


def test_what_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_lightning.config.parser.check_settings", lambda *arguments: None)
    flags = ["--trainer.callbacks+=ModelPruning", "--trainer.callbacks.pruning_fn=l1_unstructured"]
    with pytest.raises(ConfigError, match="pruning_fn: l1_unstructured cannot be written"):
        _ = Experiment("fit", ["--data.source=sample", *flags]).resolved_yaml


def test_half_precision_on_a_cpu_is_recorded_as_what_ran(fit: Fit) -> None:
    folder, out = fit("--trainer.precision=16-mixed", "--trainer.max_epochs=1", "--final_test=false")
    assert "precision bf16-mixed" in out
    assert record_of(folder)["precision"] == "bf16-mixed"
    assert yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["trainer"]["precision"] == "bf16-mixed"


def test_an_average_that_has_not_begun_is_the_weights(run: Run) -> None:
    averaged = ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.update_starting_at_step=1000"]
    figures, weights = [], []
    for logs, flags in (("plain", []), ("averaged", averaged)):
        exit_code, _, err = run("fit", *TINY_FLAGS, *flags, f"--trainer.default_root_dir={logs}")
        assert exit_code == 0, err
        folder = only_run(logs)
        figures.append(record_of(folder)["metrics"])
        weights.append(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert figures[0] == figures[1]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items() if name.startswith("net."))


def test_a_profiler_prints_its_table(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert run("fit", *TINY_FLAGS, "--trainer.profiler=simple", "--trainer.max_epochs=1")[0] == 0
    assert "FIT Profiler Report" in caplog.text


def test_the_name_of_a_system_is_no_pattern(run: Run) -> None:
    exit_code, _, err = run(
        "fit", *TINY_FLAGS, "--trainer.max_epochs=1", "--trainer.default_root_dir=logs/lr[0.1]", "--final_test=false"
    )
    assert exit_code == 0, err
    assert [found.folder for found in find_runs(Path("logs"), None, "lr[0.1]")] == [only_run("logs/lr[0.1]")]
    assert find_runs(Path("logs"), None, "*") == []
