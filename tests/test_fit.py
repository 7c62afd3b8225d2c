"""The main job on a tiny data set: what a run leaves behind, the parity of fit and test, and exact resumption."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks.progress import rich_progress
from matplotlib.figure import Figure
from run_folders import record_of, wait_for_the_next_second
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny import TINY_FLAGS

from cifar_lightning.classifier import Classifier
from cifar_lightning.metrics import SplitMetrics
from cifar_lightning.runs import checkpoint

Run = Callable[..., tuple[int, str, str]]
Fit = Callable[..., tuple[Path, str]]


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.draws
def test_what_a_run_leaves_behind(fit: Fit) -> None:
    folder, out = fit()
    assert folder.parent.parent == Path("lightning_logs")
    assert folder.parent.name.startswith("default-channels=4,4,8-hidden_features=8,8-val_size=20")
    assert folder.name.endswith("-s0")
    assert {path.name for path in folder.iterdir()} - {path.name for path in folder.glob("events*")} == {
        "checkpoints", "config.yaml", "metrics.csv", "timings.csv", "curves.png", "run.json", "confusion.png",
        "mistakes.png", "train", "val",
    }  # fmt: skip
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    record = record_of(folder)
    assert record["status"] == "finished"
    assert record["source"] == "CIFAR-10"
    assert record["data"] == {"train": 40, "val": 20, "test": 12}
    assert {"torch", "lightning", "python"} <= set(record["versions"])
    assert record["metrics"]["epochs"] == 2
    assert record["metrics"]["test"]["images"] == 12
    assert record["config"] == yaml.safe_load((folder / "config.yaml").read_text())
    rows = table(folder / "metrics.csv")
    assert list(rows[0]) == ["epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(table(folder / "timings.csv")[0]) == ["epoch", "train_s", "val_s", "images_per_second"]
    # The console: the layers, a line per epoch, the score.
    assert "conv1    Conv2d 5x5, BatchNorm2d, MaxPool2d, ReLU  4x16x16" in out
    for epoch in (1, 2):
        assert f"epoch   {epoch}/2  train loss {float(rows[epoch - 1]['train_loss']):.4f}" in out
    assert f"test    accuracy {record['metrics']['test']['accuracy']:.2%}" in out


def test_the_same_run_gives_the_same_bytes_and_another_seed_others(fit: Fit) -> None:
    metrics = [(fit(*flags)[0] / "metrics.csv").read_text() for flags in ([], [], ["--seed_everything=1"])]
    assert metrics[0] == metrics[1] != metrics[2]


@pytest.mark.draws
def test_tensorboard_overlays_train_and_val_and_shows_final_metrics_once(fit: Fit) -> None:
    folder, _ = fit()
    rows = table(folder / "metrics.csv")
    curves = {split: scalars(folder / split) for split in ("train", "val")}
    assert set(curves["train"]) == {"loss", "accuracy", "learning_rate", "images_per_second"}
    assert set(curves["val"]) == {"loss", "accuracy"}
    for split, points in curves.items():
        for name in ("loss", "accuracy"):
            expected = [(int(row["epoch"]), pytest.approx(float(row[f"{split}_{name}"]))) for row in rows]
            assert points[name] == expected
    top = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    top.Reload()
    tags = top.Tags()
    final = scalars(folder)
    assert set(final) == {f"result/{name}" for name in (
        "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
    )}  # fmt: skip
    assert all([step for step, _ in points] == [2] for points in final.values())
    assert set(tags["images"]) == {"data/samples of each class", "test/confusion", "test/mistakes"}
    assert {"config/text_summary", "layers/text_summary", "data/text_summary", "test/text_summary"} <= set(
        tags["tensors"]
    )
    for tag in ("test/confusion", "test/mistakes"):
        assert [image.step for image in top.Images(tag)] == [2]


def test_hparams_show_what_tells_runs_apart_and_the_score_first(fit: Fit) -> None:
    folder, _ = fit()
    events = EventAccumulator(str(folder))
    events.Reload()
    content = {
        tag: HParamsPluginData.FromString(content) for tag, content in events.PluginTagToContent("hparams").items()
    }
    start = content["_hparams_/session_start_info"].session_start_info.hparams
    assert {name: value.string_value or value.number_value for name, value in start.items()} == {
        "batch_size": 8, "dropout": 0.3, "epochs": 2, "learning_rate": 0.001, "net": "ReportCNN", "optimizer": "Adam",
        "precision": record_of(folder)["precision"], "seed": 0,
    }  # fmt: skip
    metrics = [info.name.tag for info in content["_hparams_/experiment"].experiment.metric_infos]
    assert metrics == [f"result/{split}_{name}" for split in ("test", "val", "train") for name in ("accuracy", "loss")]


def test_without_validation_it_says_so_and_keeps_no_best(fit: Fit, run: Run) -> None:
    folder, out = fit("--data.val_size=0")
    assert "all 60 training images, no validation split and so no validation curve" in out
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert "val_loss" not in (folder / "metrics.csv").read_text()
    assert not (folder / "val").exists()
    exit_code, _, err = run("test", "--ckpt", "best")
    assert exit_code == 4
    assert "has no best checkpoint, but it has" in err
    exit_code, _, err = run("validate", "--ckpt")
    assert exit_code == 2
    assert "without a validation split" in err


def test_final_test_false_leaves_the_test_set_alone(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "test_step", None)
    folder, out = fit("--final_test=false")
    assert "test" not in record_of(folder)["metrics"]
    assert "accuracy" in out


def test_max_epochs_0_scores_no_random_weights(fit: Fit) -> None:
    folder, out = fit("--trainer.max_epochs=0")
    assert record_of(folder)["metrics"] == {"epochs": 0}
    assert not list(folder.glob("checkpoints/*"))
    assert "test  " not in out
    assert "nothing was trained" in out


def test_best_is_the_epoch_of_highest_validation_accuracy(fit: Fit) -> None:
    folder, _ = fit("--trainer.max_epochs=5", "--model.optimizer.lr=0.03")
    accuracies = [float(row["val_accuracy"]) for row in table(folder / "metrics.csv")]
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == accuracies.index(max(accuracies))


def test_a_logger_of_the_user_s_own_gets_the_curves(fit: Fit) -> None:
    folder, _ = fit("--trainer.logger=CSVLogger", "--trainer.logger.save_dir=elsewhere")
    (path,) = Path("elsewhere").glob("**/metrics.csv")
    rows = [row for row in table(path) if row["val/accuracy"]]
    assert [float(row["val/accuracy"]) for row in rows] == [
        float(row["val_accuracy"]) for row in table(folder / "metrics.csv")
    ]
    assert list(folder.glob("events*"))  # ours stands beside it


SHORT = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
TINY_ON_SAMPLE = [*(flag for flag in TINY_FLAGS if "data." not in flag), *SHORT]


@pytest.mark.parametrize("flags", [["--data.source=sample"], []], ids=["asked for", "nothing else is there"])
def test_the_sample_is_named_everywhere(flags: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFAR10_ROOT")
    monkeypatch.setenv("CIFAR10_MIRROR", "http://127.0.0.1:9/")  # nobody listens there
    exit_code, out, err = run("fit", *TINY_ON_SAMPLE, *flags)
    assert exit_code == 0, err
    assert ("This run uses the SAMPLE in the package instead" in out) is not flags
    assert "data    the CIFAR-10 sample (6,000 images): 4,500 training and 500 validation images" in out
    assert "NOTE    all figures are about the CIFAR-10 sample" in out.splitlines()[-1]
    (folder,) = Path("lightning_logs").glob("*/*")
    assert folder.parent.name.startswith("sample-default-")
    assert record_of(folder)["sample"] == ("asked for" if flags else "fallback")
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["source"] == "sample"
    exit_code, out, _ = run("test", "--ckpt")  # of the sample again, and without asking for it
    assert exit_code == 0
    assert "the CIFAR-10 sample" in out
    assert json.loads((folder / "test.json").read_text())["images"] == 1000


@pytest.mark.parametrize("flags", [["--data.source=official"], ["--data.root=nowhere"]])
def test_the_sample_stands_in_for_no_root_and_no_source_that_was_asked_for(
    flags: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIFAR10_ROOT")
    monkeypatch.setenv("CIFAR10_MIRROR", "http://127.0.0.1:9/")
    exit_code, _, err = run("fit", *TINY_ON_SAMPLE, *flags)
    assert exit_code == 3
    assert "CIFAR-10 is not in" in err
    assert not Path("lightning_logs").exists()


def test_test_rebuilds_everything_from_the_checkpoint_alone(fit: Fit, run: Run) -> None:
    folder, _ = fit("--trainer.precision=32-true", "--data.eval_batch_size=5", "--data.split_seed=3")
    (folder / "config.yaml").unlink()  # the file alone must do
    for which in ("last", "best"):
        exit_code, _, err = run("test", "--ckpt", which)
        assert exit_code == 0, err
        result = json.loads((folder / "test.json").read_text())
        assert result["checkpoint"] == f"{which}.ckpt"
        assert result["precision"] == "32-true"
        assert sum(map(sum, result["confusion_matrix"])) == result["images"] == 12
        if which == "last":
            fitted = record_of(folder)["metrics"]["test"]
            assert {name: result[name] for name in fitted} == fitted
    exit_code, _, err = run("validate", "--ckpt")
    assert exit_code == 0, err
    validated = json.loads((folder / "validate.json").read_text())
    assert validated["accuracy"] == float(table(folder / "metrics.csv")[-1]["val_accuracy"])


def test_flags_win_over_the_checkpoint(fit: Fit, run: Run) -> None:
    folder, _ = fit()
    assert run("test", "--ckpt", "last", "--trainer.precision=32-true")[0] == 0
    assert json.loads((folder / "test.json").read_text())["precision"] == "32-true"
    exit_code, _, err = run("test", "--ckpt", "last", "--model.net.hidden_features=[8,9]")
    assert exit_code == 4
    assert "holds another architecture: net.layers.dense2.0.weight is (8, 8) in the file and (9, 8) here" in err


@pytest.mark.parametrize(("verb", "flag"), [
    ("validate", "--data.val_size=10"), ("validate", "--data.split_seed=7"), ("test", "--data.source=sample"),
])  # fmt: skip
def test_a_score_is_of_images_that_the_weights_have_not_seen(fit: Fit, run: Run, verb: str, flag: str) -> None:
    folder, _ = fit()
    exit_code, _, err = run(verb, "--ckpt", "last", flag)
    assert exit_code == 2
    assert "cannot change from what the checkpoint has" in err
    assert not (folder / f"{verb}.json").exists()


def test_a_score_is_of_the_whole_split(fit: Fit, run: Run) -> None:
    folder, _ = fit("--trainer.limit_val_batches=1", "--data.eval_batch_size=5")
    assert run("validate", "--ckpt")[0] == 0
    assert json.loads((folder / "validate.json").read_text())["images"] == 20
    exit_code, _, err = run("test", "--ckpt", "--trainer.limit_test_batches=1")
    assert exit_code == 2
    assert "the test set is scored whole or not at all" in err


def test_a_class_from_elsewhere_is_not_imported_because_a_file_says_so(fit: Fit, run: Run, tmp_path: Path) -> None:
    folder, _ = fit()
    path = folder / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    section = content["cifar_lightning"]
    section["config"] = section["config"].replace("cifar_lightning.nets.report_cnn.ReportCNN", "evil_module.Net")
    torch.save(content, path)
    Path("evil_module.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    sys.path.insert(0, os.getcwd())
    try:
        exit_code, _, err = run("test", "--ckpt", str(path))
    finally:
        sys.path.pop(0)
    assert exit_code == 4
    assert "names the class evil_module.Net" in err
    assert "--model.net evil_module.Net" in err
    assert not (tmp_path / "imported").exists()


def signal_at(monkeypatch: pytest.MonkeyPatch, hook: str, step: int, signum: int) -> None:
    """The process gets `signum` in the given hook of training step `step`, once."""
    sent: list[int] = []

    def send(self: Classifier, *arguments: Any) -> None:
        if self.global_step == step and not sent:
            sent.append(step)
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(Classifier, hook, send)


def stopped_and_gone_on(run: Run, monkeypatch: pytest.MonkeyPatch, flags: list[str], step: int) -> Path:
    """The folder of a run that got Ctrl-C in training step `step` and went on to its end."""
    with monkeypatch.context() as context:
        signal_at(context, "on_train_batch_start", step, signal.SIGINT)
        assert run("fit", *TINY_FLAGS, *flags, "--trainer.default_root_dir=stopped")[0] == 130
    (folder,) = Path("stopped").glob("*/*")
    assert run("fit", "--ckpt", "last", "--trainer.default_root_dir=stopped")[0] == 0
    return folder


RESUME_FLAGS = ["--trainer.max_epochs=3", "--model.scheduler=StepLR", "--model.scheduler.step_size=1"]
TRIANGULAR = [
    "--trainer.max_epochs=3", "--model.scheduler=TriangularLR", "--model.scheduler.start=0.2",
    "--model.scheduler.peak=0.4", "--model.scheduler.end=0.1",
]  # fmt: skip
AUGMENTED = ["--data.augment.flip=alternating", "--data.augment.crop_padding=2", "--data.augment.cutout=6"]


# 5 steps an epoch: the first, a middle, an epoch's last, the next one's first; and in validation.
@pytest.mark.parametrize(
    ("hook", "step", "signum", "flags"),
    [
        ("on_train_batch_start", 0, signal.SIGINT, RESUME_FLAGS),
        ("on_train_batch_start", 2, signal.SIGTERM, RESUME_FLAGS),
        ("on_train_batch_start", 4, signal.SIGINT, RESUME_FLAGS),
        ("on_train_batch_start", 5, signal.SIGINT, RESUME_FLAGS),
        ("on_validation_batch_start", 5, signal.SIGTERM, RESUME_FLAGS),
        ("on_train_batch_start", 7, signal.SIGINT, [*TRIANGULAR, *AUGMENTED]),
    ],
)
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch, hook: str, step: int, signum: int, flags: list[str]
) -> None:
    whole, _ = fit(*flags)
    with monkeypatch.context() as context:
        signal_at(context, hook, step, signum)
        exit_code, _, err = run("fit", *TINY_FLAGS, *flags, "--trainer.default_root_dir=stopped")
    assert exit_code == 128 + signum
    (folder,) = Path("stopped").glob("*/*")
    assert f"go on with: python -m cifar_lightning fit --ckpt {folder}/checkpoints/last.ckpt" in err
    assert record_of(folder)["status"] == "interrupted"
    wait_for_the_next_second()
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.default_root_dir", "stopped")
    assert exit_code == 0, err
    assert not err
    assert list(Path("stopped").glob("*/*")) == [folder]
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert record_of(folder)["metrics"] == record_of(whole)["metrics"]
    assert record_of(folder)["status"] == "finished"
    assert_same_state(whole, folder, "last")
    assert_same_state(whole, folder, "best")
    for split in ("train", "val"):
        stopped, uninterrupted = scalars(folder / split), scalars(whole / split)
        stopped.pop("images_per_second", None), uninterrupted.pop("images_per_second", None)
        assert stopped == uninterrupted


def test_a_cut_epoch_and_a_timed_checkpoint_go_on_the_same_way(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """limit_train_batches leaves batches over; and the checkpoint is the one of every 5 minutes, here of every step."""
    flags = [*RESUME_FLAGS, "--trainer.limit_train_batches=4"]
    whole, _ = fit(*flags)
    killed = KeyboardInterrupt("as if by kill -9: no callback may save")

    def kill(self: Classifier, *arguments: Any) -> None:
        if self.global_step == 7:
            raise killed

    with monkeypatch.context() as context:
        context.setattr("cifar_lightning.training.callbacks.checkpoint.SAVE_EVERY_S", 0.0)
        context.setattr(Classifier, "on_train_batch_start", kill)
        assert run("fit", *TINY_FLAGS, *flags, "--trainer.default_root_dir=stopped")[0] == 130
    (folder,) = Path("stopped").glob("*/*")
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 7  # in the middle of the second epoch
    assert run("fit", "--ckpt", str(folder / "checkpoints" / "last.ckpt"))[0] == 0
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert_same_state(whole, folder)


@pytest.mark.parametrize(
    ("flags", "step"),
    [
        (["--trainer.accumulate_grad_batches=2"], 1),
        (["--trainer.val_check_interval=2"], 2),
        (["--trainer.val_check_interval=2"], 3),
        (["--trainer.val_check_interval=4", "--trainer.check_val_every_n_epoch=null"], 7),  # due in mid-epoch
        (["--trainer.max_steps=100"], 4),
        (["--trainer.max_steps=12"], 7),
    ],
)
def test_a_stop_waits_for_a_moment_that_can_be_resumed(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch, flags: list[str], step: int
) -> None:
    whole, _ = fit(*RESUME_FLAGS, *flags)
    folder = stopped_and_gone_on(run, monkeypatch, [*RESUME_FLAGS, *flags], step)
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert_same_state(whole, folder)


PLATEAU_CLASS = "lightning.pytorch.cli.ReduceLROnPlateau"  # torch has one of that name too
PLATEAU = [
    "--trainer.max_epochs=6", f"--model.scheduler={PLATEAU_CLASS}", "--model.scheduler.monitor=val/loss",
    "--model.scheduler.mode=max", "--model.scheduler.patience=0", "--model.scheduler.factor=0.5",
    "--model.scheduler.threshold=100",  # no loss is ever that much higher: each validation lowers the rate
]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "step"),
    [
        ([], 4),
        ([], 7),
        (["--trainer.val_check_interval=3"], 8),  # between the validation and the epoch's end
        (["--trainer.check_val_every_n_epoch=2"], 9),
    ],
)
def test_a_plateau_goes_on_as_if_the_run_had_not_been_stopped(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch, flags: list[str], step: int
) -> None:
    whole, _ = fit(*PLATEAU, *flags)
    assert len(set(rates(whole))) > 1
    folder = stopped_and_gone_on(run, monkeypatch, [*PLATEAU, *flags], step)
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert_same_state(whole, folder)


def test_an_epoch_that_validated_before_a_stop_can_be_the_best(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--trainer.max_epochs=1", "--trainer.val_check_interval=3"]
    whole, _ = fit(*flags)
    folder = stopped_and_gone_on(run, monkeypatch, flags, 3)
    assert_same_state(whole, folder, "best")


def test_an_epoch_cut_by_max_steps_is_an_epoch(fit: Fit, run: Run) -> None:
    folder, _ = fit("--trainer.max_steps=7")
    assert [row["epoch"] for row in table(folder / "metrics.csv")] == ["1", "2"]
    assert all(row["val_loss"] for row in table(folder / "metrics.csv"))
    assert run("fit", "--ckpt", "last", "--trainer.max_steps=12", "--trainer.max_epochs=3")[0] == 0
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 12
    assert last["loops"]["fit_loop"]["state_dict"]["combined_loader"] == [{"epoch": 3, "next_batch": 0}]
    assert [row["epoch"] for row in table(folder / "metrics.csv")] == ["1", "2", "3"]
    assert [row["epoch"] for row in table(folder / "timings.csv")] == ["1", "2", "3"]


def test_a_run_that_was_moved_keeps_its_best_epoch(fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = fit()
    best = {path.name: path.read_bytes() for path in folder.glob("checkpoints/best.ckpt")}
    Path("lightning_logs").rename("moved")
    monkeypatch.setattr(SplitMetrics, "compute", lambda self: {"loss": 9.0, "accuracy": 0.0})
    flags = ["--trainer.max_epochs=3", "--trainer.default_root_dir=moved", "--final_test=false"]
    assert run("fit", "--ckpt", "last", *flags)[0] == 0
    (folder,) = Path("moved").glob("*/*")
    assert {path.name: path.read_bytes() for path in folder.glob("checkpoints/best.ckpt")} == best
    assert str(folder.resolve()) in str(
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    )


@pytest.mark.parametrize(
    ("figure", "text"),
    [("curves", "stopped after the last epoch, 2, before the test; go on with: "), ("sample_grid", "terminated")],
)
def test_a_signal_while_figures_are_drawn_after_the_last_epoch(
    run: Run, monkeypatch: pytest.MonkeyPatch, figure: str, text: str
) -> None:
    drawn: list[int] = []

    def killed(*arguments: Any) -> Figure:
        if not drawn:  # an error draws the curves once more
            os.kill(os.getpid(), signal.SIGTERM)
        drawn.append(1)
        return Figure(figsize=(1, 1))

    with monkeypatch.context() as context:
        context.setattr(f"cifar_lightning.runs.figures.{figure}", killed)
        exit_code, out, err = run("fit", *TINY_FLAGS)
    assert exit_code == 143
    assert text in err
    assert ("test " in out) == (figure == "sample_grid")
    (folder,) = Path("lightning_logs").glob("*/*")
    assert record_of(folder)["status"] == "interrupted"
    assert run("fit", "--ckpt")[0] == 0
    assert record_of(folder)["metrics"]["test"]["images"] == 12


def test_a_finished_run_that_is_extended_is_described_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    grid = lambda *arguments: drawn.append(1) or Figure(figsize=(1, 1))  # noqa: E731
    monkeypatch.setattr("cifar_lightning.runs.figures.sample_grid", grid)
    assert run("fit", *TINY_FLAGS, "--trainer.max_epochs=1")[0] == 0
    assert run("fit", "--ckpt=last", "--trainer.max_epochs=2")[0] == 0
    assert len(drawn) == 1
    (folder,) = Path("lightning_logs").glob("*/*")
    texts = [path for path in folder.glob("events*") if b"layers/text_summary" in path.read_bytes()]
    assert len(texts) == 1


def test_a_checkpoint_with_the_state_of_a_callback_of_former_times_goes_on_in_silence(fit: Fit, run: Run) -> None:
    folder, _ = fit()
    path = folder / "checkpoints" / "last.ckpt"
    content = checkpoint.load(path).content
    assert set(content["callbacks"]) == {"LearningCurves", "Timing", "best", "last"}  # the names in old checkpoints
    content["callbacks"]["InNoHurry"] = {"done": False}
    checkpoint.write(content, path)
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.max_epochs=3")
    assert exit_code == 0
    assert not err
    assert [row["epoch"] for row in table(folder / "timings.csv")] == ["1", "2", "3"]


def test_a_fast_dev_run_leaves_the_test_set_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "test_step", lambda *arguments: pytest.fail("the test set was looked at"))
    exit_code, out, err = run("fit", *TINY_FLAGS, "--trainer.fast_dev_run=true")
    assert exit_code == 0, err
    assert "not scored: fast_dev_run" in out


def test_an_error_in_the_first_epoch_keeps_what_was_saved(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_lightning.training.callbacks.checkpoint.SAVE_EVERY_S", 0.0)

    def fail(self: Classifier, *arguments: Any) -> None:
        if self.global_step == 3:
            raise ValueError("Expected more than 1 value per channel when training")

    monkeypatch.setattr(Classifier, "on_train_batch_start", fail)
    exit_code, _, err = run("fit", *TINY_FLAGS)
    assert exit_code == 1
    assert "Expected more than 1 value" in err
    (folder,) = Path("lightning_logs").glob("*/*")
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert record_of(folder)["status"] == "failed"


def test_ckpt_last_looks_where_a_config_says_that_runs_lie(fit: Fit, run: Run) -> None:
    fit()
    wait_for_the_next_second()
    Path("mine.yaml").write_text("trainer: {default_root_dir: mine}\n")
    assert run("fit", *TINY_FLAGS, "--config=mine.yaml", "--trainer.max_epochs=1")[0] == 0
    fit()
    exit_code, out, _ = run("test", "--config=mine.yaml", "--ckpt", "last")
    assert exit_code == 0
    assert "mine/mine-" in out


def test_an_epoch_that_was_logged_and_not_saved_is_not_doubled(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = fit(*RESUME_FLAGS)
    save = Trainer.save_checkpoint

    def cut(self: Trainer, *arguments: Any, **settings: Any) -> None:
        if self.global_step == 10:
            raise KeyboardInterrupt
        save(self, *arguments, **settings)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "save_checkpoint", cut)
        assert run("fit", *TINY_FLAGS, *RESUME_FLAGS, "--trainer.default_root_dir=cut")[0] == 130
    (folder,) = Path("cut").glob("*/*")
    assert [step for step, _ in scalars(folder / "train")["loss"]] == [1, 2]  # the second epoch has no checkpoint
    wait_for_the_next_second()
    assert run("fit", "--ckpt", "last", "--trainer.default_root_dir=cut")[0] == 0
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    for split in ("train", "val"):
        assert scalars(folder / split)["loss"] == scalars(whole / split)["loss"]
    assert_same_state(whole, folder)


def assert_same_state(first: Path, second: Path, which: str = "last") -> None:
    """Weights, optimizer and scheduler of two runs' checkpoints agree bit for bit."""
    one, other = [torch.load(folder / "checkpoints" / f"{which}.ckpt", weights_only=True) for folder in (first, second)]
    assert one["global_step"] == other["global_step"]
    assert one["lr_schedulers"] == other["lr_schedulers"]
    for part in ("state_dict", "optimizer_states"):
        left, right = [torch.utils._pytree.tree_flatten(content[part])[0] for content in (one, other)]
        assert len(left) == len(right) > 0
        for a, b in zip(left, right, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_second_signal_stops_at_once_and_leaves_the_last_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(self: Classifier, *arguments: Any) -> None:
        if self.global_step == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Classifier, "on_train_batch_start", twice)
    exit_code, _, err = run("fit", *TINY_FLAGS)
    assert exit_code == 130
    assert "stopped at once" in err
    (folder,) = Path("lightning_logs").glob("*/*")
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    assert record_of(folder)["status"] == "interrupted"


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_final_test(run: Run, monkeypatch: pytest.MonkeyPatch, signum: int, exit_code: int) -> None:
    with monkeypatch.context() as context:
        context.setattr(Classifier, "on_test_batch_start", lambda *arguments: os.kill(os.getpid(), signum))
        assert run("fit", *TINY_FLAGS)[0] == exit_code
    (folder,) = Path("lightning_logs").glob("*/*")
    assert record_of(folder)["status"] == "interrupted"
    # The epochs are done, the score is not: going on makes up for it without training more.
    before = (folder / "metrics.csv").read_bytes()
    assert run("fit", "--ckpt")[0] == 0
    assert (folder / "metrics.csv").read_bytes() == before
    assert record_of(folder)["metrics"]["test"]["images"] == 12


def test_a_finished_run_goes_on_with_more_epochs_and_says_so_without(fit: Fit, run: Run) -> None:
    whole, _ = fit("--trainer.max_epochs=4")
    exit_code, _, err = run("fit", *TINY_FLAGS, "--trainer.default_root_dir=short")
    assert exit_code == 0, err
    (folder,) = Path("short").glob("*/*")
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.default_root_dir=short")
    assert exit_code == 2
    assert "has finished its 2 epochs; give a higher --trainer.max_epochs" in err
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.default_root_dir=short", "--trainer.max_epochs=4")
    assert exit_code == 0, err
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert_same_state(whole, folder)
    assert len(record_of(folder)["resumed"]) == 1


def rates(folder: Path) -> list[float]:
    return [float(row["learning_rate"]) for row in table(folder / "metrics.csv")]


def test_a_schedule_over_the_whole_training_ends_where_it_should(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def note(self: Classifier, *arguments: Any) -> None:
        seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr(Classifier, "on_train_batch_start", note)
    folder, _ = fit(*TRIANGULAR)
    up, down = [0.2 + 0.8 * step / 6 for step in range(6)], [1 - 0.9 * step / 9 for step in range(10)]
    assert seen == pytest.approx([0.001 * factor for factor in [*up, *down][:15]])
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (optimizer,), (scheduler,) = last["optimizer_states"], last["lr_schedulers"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.001 * 0.1)
    assert scheduler["last_epoch"] == last["global_step"] == 15
    # Fewer steps an epoch would end the schedule elsewhere, also from one epoch to the next.
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.max_epochs=4", "--data.batch_size=20")
    assert exit_code == 2
    assert "data.batch_size cannot change from what the checkpoint has: the schedule has counted its steps by it" in err


@pytest.mark.parametrize(
    "flags",
    [["--trainer.num_sanity_val_steps=1"], ["--trainer.val_check_interval=2", "--trainer.limit_val_batches=2"]],
    ids=str,
)
def test_every_validation_begins_at_its_first_image(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    batches: dict[int, set[bytes]] = {}

    def note(self: Classifier, batch: Any, batch_idx: int, *arguments: Any) -> None:
        batches.setdefault(batch_idx, set()).add(batch[0].numpy().tobytes())

    monkeypatch.setattr(Classifier, "on_validation_batch_start", note)
    fit("--data.eval_batch_size=5", "--final_test=false", *flags)
    assert [len(found) for found in batches.values()] == [1] * (2 if "limit" in flags[-1] else 4)


def test_a_changed_rate_wins_over_the_restored_optimizer(fit: Fit, run: Run) -> None:
    folder, _ = fit()
    flags = ["--trainer.max_epochs=3", "--model.optimizer.lr=0.01", "--model.optimizer.weight_decay=0.5"]
    exit_code, _, err = run("fit", "--ckpt", "last", *flags)
    assert exit_code == 0, err
    assert rates(folder) == [0.001, 0.001, 0.01]
    (state,) = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"]
    assert state["param_groups"][0]["weight_decay"] == 0.5


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        (
            "--data.val_size=10",
            "data.val_size cannot change from what the checkpoint has: images that have trained would validate",
        ),
        ("--data.split_seed=1", "data.split_seed cannot change"),
        ("--data.source=sample", "data.source cannot change"),
        ("--model.optimizer=SGD", "model.optimizer.class_path cannot change"),
        ("--model.scheduler.step_size=2", "model.scheduler cannot change"),
        ("--model.optimizer.lr=0.1", "model.optimizer.lr cannot change when a run with a scheduler goes on"),
        ("--data.batch_size=10", "data.batch_size cannot change in the middle of an epoch (8 before)"),
        ("--seed_everything=1", "seed_everything cannot change in the middle of an epoch (0 before)"),
        ("--model.net.hidden_features=[8,9]", "holds another architecture"),
        ("--trainer.max_epochs=0", "trainer.max_epochs 0 is below the 1 epochs that the checkpoint has"),
    ],
)
def test_what_cannot_change_when_a_run_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch, flag: str, text: str) -> None:
    with monkeypatch.context() as context:
        signal_at(context, "on_train_batch_start", 7, signal.SIGINT)
        assert run("fit", *TINY_FLAGS, *RESUME_FLAGS)[0] == 130
    (folder,) = Path("lightning_logs").glob("*/*")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    exit_code, _, err = run("fit", "--ckpt", "last", flag)
    assert exit_code == (4 if "architecture" in text else 2)
    assert text in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_batch_size_may_change_between_two_epochs(fit: Fit, run: Run) -> None:
    folder, _ = fit()
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.max_epochs=3", "--data.batch_size=20")
    assert exit_code == 0, err
    assert len(rates(folder)) == 3


def test_a_resumed_run_keeps_its_best_epoch(fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.1, 0.9, 0.5, 0.4])
    monkeypatch.setattr(Classifier, "on_validation_epoch_end", lambda self: self.log("val/accuracy", next(accuracies)))
    folder, _ = fit()
    assert run("fit", "--ckpt", "last", "--trainer.max_epochs=4")[0] == 0
    assert torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1


def test_a_run_without_its_score_can_be_finished(fit: Fit, run: Run) -> None:
    folder, _ = fit("--final_test=false")
    before = (folder / "metrics.csv").read_bytes()
    exit_code, _, err = run("fit", "--ckpt", "last", "--final_test", "true")
    assert exit_code == 0, err
    assert record_of(folder)["metrics"]["test"]["images"] == 12
    assert (folder / "metrics.csv").read_bytes() == before


def test_going_on_from_best_is_a_run_of_its_own(fit: Fit, run: Run) -> None:
    folder, _ = fit()
    before = (folder / "metrics.csv").read_bytes()
    exit_code, _, err = run("fit", "--ckpt", str(folder / "checkpoints" / "best.ckpt"), "--trainer.max_epochs=3")
    assert exit_code == 0, err
    assert (folder / "metrics.csv").read_bytes() == before
    (other,) = [path for path in Path("lightning_logs").glob("*/*") if path != folder]
    assert [row["epoch"] for row in table(other / "metrics.csv")] == ["1", "2", "3"]


def test_a_bar_on_a_terminal_only_and_lines_everywhere(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, plain = fit("--final_test=false")
    assert " left" not in plain
    assert "\x1b" not in plain
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich: draw as on a terminal
    monkeypatch.setattr(rich_progress, "_IS_INTERACTIVE", True)  # at once, and not when the bar's thread comes by
    _, drawn = fit("--final_test=false")
    for part in ("epoch 1/2", "loss ", "acc ", "img/s", " left", "Validation", "/5"):
        assert part in drawn
    assert "…" not in drawn
    assert drawn.count("epoch   2/2  train loss") == 1
    _, quiet = fit("--final_test=false", "--trainer.enable_progress_bar=false")
    assert " left" not in quiet


def test_the_bar_reads_the_device_at_most_twice_a_second(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    so_far = SplitMetrics.so_far
    monkeypatch.setattr(SplitMetrics, "so_far", lambda self: reads.append(1) or so_far(self))
    monkeypatch.setenv("FORCE_COLOR", "1")
    fit("--final_test=false")
    rare = len(reads)
    monkeypatch.setattr("cifar_lightning.training.callbacks.progress.REFRESH_S", 0.0)
    fit("--final_test=false")
    assert len(reads) - rare >= 10 > rare - 8  # each of 10 steps against those of half a second, beside the epochs' own


def test_a_loss_that_is_no_number_is_exit_5_and_keeps_the_checkpoints(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_step = Classifier.training_step

    def poisoned(self: Classifier, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        return whole_step(self, (images * float("nan") if self.global_step >= 7 else images, labels), batch_idx)

    monkeypatch.setattr(Classifier, "training_step", poisoned)
    exit_code, _, err = run("fit", *TINY_FLAGS, "--trainer.max_epochs=4")
    assert exit_code == 5
    assert "the loss of batch 3 of epoch 2 is not a finite number" in err
    (folder,) = Path("lightning_logs").glob("*/*")
    assert record_of(folder)["status"] == "failed"
    weights = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in weights.values())


def test_a_validation_loss_that_is_no_number_is_exit_5(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Classifier.validation_step

    def poisoned(self: Classifier, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        return step(self, (batch[0] * float("nan"), batch[1]), batch_idx)

    monkeypatch.setattr(Classifier, "validation_step", poisoned)
    exit_code, _, err = run("fit", *TINY_FLAGS)
    assert exit_code == 5
    assert "the val loss of epoch 1 is nan" in err
    (folder,) = Path("lightning_logs").glob("*/*")
    assert record_of(folder)["status"] == "failed"


@pytest.mark.parametrize(
    ("flags", "statuses"),
    [
        (["--trainer.limit_val_batches=0.0001"], []),
        (["--trainer.val_check_interval=100000"], []),
    ],
    ids=str,
)
def test_what_lightning_notices_late_is_still_one_line(run: Run, flags: list[str], statuses: list[str]) -> None:
    exit_code, _, err = run("fit", *TINY_FLAGS, *flags)
    assert exit_code == 2
    assert err.startswith("error: trainer: ")
    assert err.count("\n") == 1
    assert [record_of(folder)["status"] for folder in Path("lightning_logs").glob("*/*")] == statuses


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--trainer.val_check_interval=100000", "error: trainer: `val_check_interval` (100000)"),
        ("--model.scheduler.total_steps=10", "error: model.scheduler: OneCycleLR ends after 10 steps"),
    ],
)
def test_a_resume_that_is_refused_late_changes_nothing(fit: Fit, run: Run, flag: str, message: str) -> None:
    folder, _ = fit("--model.scheduler=OneCycleLR", "--model.scheduler.max_lr=0.1", "--model.scheduler.total_steps=10")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.max_epochs=4", flag)
    assert exit_code == 2, err
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "has finished its 2 epochs" in run("fit", "--ckpt", "last")[2]


def test_fit_then_test_in_a_fresh_process_on_the_real_data(real_root: str, tmp_path: Path) -> None:
    environment = {**os.environ, "CIFAR10_ROOT": real_root}

    def verb(*arguments: str) -> str:
        command = [sys.executable, "-m", "cifar_lightning", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=300
        ).stdout

    verb("fit", "--trainer.max_epochs=1", "--trainer.limit_train_batches=40")
    verb("test", "--ckpt")
    (folder,) = (tmp_path / "lightning_logs").glob("*/*")
    fitted, tested = record_of(folder)["metrics"]["test"], json.loads((folder / "test.json").read_text())
    assert tested["images"] == 10_000
    assert {name: tested[name] for name in fitted} == fitted
    assert 0.15 < tested["accuracy"] < 0.6  # it has learnt something in 40 steps, and nothing leaks
