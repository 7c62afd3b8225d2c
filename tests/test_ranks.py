"""Two processes on one machine (DDP over gloo), started by the true command, against one."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from run_folders import only_run

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]

TWO = ["--trainer.devices=2", "--trainer.accelerator=cpu"]
SAMPLE = ["--data.source=sample", "--data.val_size=1000", "--trainer.precision=32-true"]
# A whole epoch in 18 steps: every image of it is in one of them.
PARITY = [
    *SAMPLE, "--model.net=plain_net.PlainNet", "--model.optimizer=SGD", "--model.optimizer.lr=0.05",
    "--model.optimizer.momentum=0.9", "--data.batch_size=500", "--data.augment.flip=random",
    "--data.augment.crop_padding=2", "--trainer.max_epochs=2", "--trainer.accelerator=cpu",
]  # fmt: skip
TINY_NET = ["--model.net.channels=[4,4,8]", "--model.net.hidden_features=[8,8]"]


def start(*arguments: str, program: Sequence[str] = ("-m", "cifar_lightning")) -> "subprocess.Popen[str]":
    """The true command, in the folder of the test."""
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    scratch = Path("scratch").resolve()  # of this test alone, to see what other ranks leave there
    scratch.mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def command(*arguments: str) -> str:
    """Its output; it must end well and complain of nothing."""
    out, err = (process := start(*arguments)).communicate(timeout=240)
    assert process.returncode == 0, err
    assert not err
    return out


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_two_processes_train_as_one_on_the_same_batches(run: Run) -> None:
    assert run("fit", *PARITY, "--trainer.default_root_dir=one")[0] == 0
    out = command("fit", *PARITY, *TWO, "--trainer.default_root_dir=two")
    assert "2 x cpu" in out
    assert out.count("test    accuracy") == 1  # one process speaks
    one, two = only_run("one"), only_run("two")
    assert {path.name for path in one.rglob("*.*") if "tfevents" not in path.name} == {
        path.name for path in two.rglob("*.*") if "tfevents" not in path.name
    }
    assert not list(Path("scratch").glob("cifar-lightning-*")), "a rank left its scratch folder"
    # The order in which a sum is taken differs, nothing else; the steps let that grow.
    for name, value in weights(one).items():
        if "metrics" not in name:
            torch.testing.assert_close(weights(two)[name], value, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(rows(two), rows(one), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)
    records = [json.loads((folder / "run.json").read_text()) for folder in (one, two)]
    tests = [record["metrics"]["test"] for record in records]
    assert [test["images"] for test in tests] == [1000, 1000]
    assert sum(map(sum, tests[1]["confusion_matrix"])) == 1000
    assert tests[1]["loss"] == pytest.approx(tests[0]["loss"], rel=1e-3)


def test_the_whitening_and_the_averaged_views_are_those_of_one_process(run: Run) -> None:
    flags = [
        *SAMPLE, "--model.net=SpeedNet", "--model.net.widths=[4,4]", "--model.optimizer=MuonSGD",
        "--model.optimizer.lr=0.1", "--data.batch_size=500", "--trainer.max_steps=2", "--model.tta.views=flip",
        "--trainer.accelerator=cpu",
    ]  # fmt: skip
    assert run("fit", *flags, "--trainer.default_root_dir=one")[0] == 0
    command("fit", *flags, *TWO, "--trainer.default_root_dir=two")
    one, two = only_run("one"), only_run("two")
    name = "net.layers.stem.0.weight"
    # Signs of components are free: each comes with its negative.
    torch.testing.assert_close(weights(two)[name].abs(), weights(one)[name].abs(), rtol=1e-3, atol=1e-3)
    out = command("test", "--ckpt", str(two / "checkpoints" / "last.ckpt"), *TWO)
    assert out.count("TTA flip") == 1
    scored = json.loads((two / "test.json").read_text())["tta"]
    trained = json.loads((two / "run.json").read_text())["metrics"]["test_tta"]
    assert scored["images"] == 1000
    assert scored["loss"] == pytest.approx(trained["loss"], rel=1e-5)
    assert scored["accuracy"] == trained["accuracy"]


def test_two_processes_score_a_checkpoint_as_one(run: Run) -> None:
    flags = [*SAMPLE, *TINY_NET, "--trainer.max_epochs=1", "--trainer.limit_train_batches=10"]
    assert run("fit", *flags, "--data.eval_batch_size=333", "--trainer.accelerator=cpu")[0] == 0
    folder = only_run("lightning_logs")
    checkpoint = str(folder / "checkpoints" / "last.ckpt")
    scores = {}
    for devices in (1, 2):
        if devices == 1:
            assert run("test", "--ckpt", checkpoint)[0] == 0
        else:
            command("test", "--ckpt", checkpoint, *TWO)
        scores[devices] = json.loads((folder / "test.json").read_text())
    loss_of_one, loss_of_two = scores[1].pop("loss"), scores[2].pop("loss")
    assert scores[1] == scores[2]  # every class, the confusion matrix, the calibration error: image by image
    assert loss_of_two == pytest.approx(loss_of_one, rel=1e-6)


def test_two_processes_stop_together_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in mid-epoch, where each process holds sums of its own; beside an average of the weights."""
    monkeypatch.chdir(tmp_path)
    flags = [
        *SAMPLE, *TINY_NET, *TWO, "--trainer.max_epochs=2", "--final_test=false",
        "--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.8",
    ]  # fmt: skip
    command("fit", *flags, "--trainer.default_root_dir=whole")
    program = [str(Path(__file__).parent / "stopping_cli.py")]
    process = start("fit", *flags, "--trainer.default_root_dir=cut", program=program)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 143
    assert err.count("\n") == 2, err  # 'stopping after this batch', and how to go on; from one process
    content = torch.load(only_run("cut") / "checkpoints" / "last.ckpt", weights_only=True)
    assert (
        content["global_step"] == 214
    )  # told at step 184, the 20th of the second epoch, and notes are compared every 50
    seen = content["state_dict"]["train_metrics.count"]
    assert seen == 50 * 30
    assert not list(Path("scratch").glob("cifar-lightning-*"))
    command("fit", "--ckpt", str(only_run("cut") / "checkpoints" / "last.ckpt"))
    whole, cut = only_run("whole"), only_run("cut")
    for name, value in weights(whole).items():
        if "metrics" not in name:
            assert torch.equal(weights(cut)[name], value), name
    assert rows(cut) == [pytest.approx(row, rel=1e-6) for row in rows(whole)]


def test_a_launcher_that_says_no_place_to_meet_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    exit_code, _, err = run("fit", *SAMPLE, *TINY_NET, *TWO)
    assert exit_code == 2
    assert "LOCAL_RANK is set, but not by torchrun or srun" in err
    assert not list(Path().glob("lightning_logs/*/*"))


def test_a_batch_that_cannot_be_shared_out(run: Run) -> None:
    exit_code, _, err = run("fit", *SAMPLE, *TINY_NET, *TWO, "--data.batch_size=31")
    assert exit_code == 2
    assert err.startswith("error: data.batch_size 31 is that of all devices together and must be a multiple")
    assert err.count("\n") == 1
    assert not list(Path().glob("lightning_logs/*/*"))
