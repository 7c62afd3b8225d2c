"""Row 25: a loss or a gradient that is no number never reaches a weight, and the batch is named."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.comparison import content_of, differences, run_differences
from faults.forked import Fault, ForkServer
from faults.scenes import EVERYTHING
from run_folders import only_run, record_of

pytestmark = pytest.mark.slow

OPTIMIZERS = {
    "Adam": ["--model.optimizer=Adam", "--model.optimizer.lr=0.01"],
    "SGD": ["--model.optimizer=SGD", "--model.optimizer.lr=0.1", "--model.optimizer.momentum=0.9"],
    "MuonSGD": ["--model.optimizer=MuonSGD", "--model.optimizer.lr=0.02"],
}
BAD_STEP = 7  # of 10: the third of the second epoch
GPU: list[Fault] = [("as_on_a_gpu", {})]


def net_of(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    prefix = "net."
    return {name.removeprefix(prefix): value for name, value in content["state_dict"].items() if prefix in name}


@pytest.mark.parametrize(
    ("optimizer", "precision", "what"),
    [
        (optimizer, precision, ("loss", "gradient", "images")[number % 3])
        for number, (optimizer, precision) in enumerate(product(OPTIMIZERS, ("32-true", "bf16-mixed")))
    ],
)
def test_the_weights_stay_those_of_before_the_bad_batch(
    cli: ForkServer, optimizer: str, precision: str, what: str
) -> None:
    flags = [*OPTIMIZERS[optimizer], f"--trainer.precision={precision}"]
    poison: list[Fault] = [("poison", {"step": BAD_STEP, "what": what}), ("keep_weights", {"path": "weights.pt"})]
    # Saved after every good step: the file is what the run was before the bad one.
    exit_code, _, err = cli.fit(*flags, "--trainer.default_root_dir=cpu", faults=[("save_every_step", {}), *poison])
    assert exit_code == 5, err
    what_it_says = "a gradient" if what == "gradient" else "the loss"
    assert err.startswith(f"error: {what_it_says} of batch 3 of epoch 2 is not a finite number")
    assert err.count("\n") == 1
    before = net_of(content_of(only_run("cpu")))
    assert content_of(only_run("cpu"))["global_step"] == BAD_STEP
    kept = torch.load("weights.pt")
    assert kept
    assert differences(kept, {name: before[name] for name in kept}) == []
    assert all(value.isfinite().all() for value in before.values())  # batch norm's statistics as well
    # As on a GPU, the run goes on to the epoch's end with updates that come to nothing.
    exit_code, _, err = cli.fit(*flags, "--trainer.default_root_dir=gpu", faults=[*GPU, *poison])
    assert exit_code == 5, err
    assert err.startswith("error: the loss or a gradient of batch 3 of epoch 2 is not a finite number")
    assert differences(torch.load("weights.pt"), kept) == []
    for which in ("last", "best"):
        content = content_of(only_run("gpu"), which)
        assert content["global_step"] == 5
        assert all(value.isfinite().all() for value in net_of(content).values())
    assert record_of(only_run("gpu"))["status"] == "failed"
    assert (only_run("gpu") / "metrics.csv").read_text().count("\n") == 2  # the header and the first epoch


@pytest.mark.parametrize("hook", [GPU, []], ids=["masked", "read at once"])
def test_a_good_run_is_the_same_with_and_without_the_guard(cli: ForkServer, whole: Path, hook: list[Fault]) -> None:
    exit_code, _, err = cli.run("fit", *EVERYTHING, faults=hook or [("without_guard", {})])
    assert exit_code == 0, err
    assert run_differences(whole, only_run()) == []


def test_no_save_in_the_same_epoch_holds_a_bad_batch(cli: ForkServer) -> None:
    """Asked to stop, and at every save that is due: the flag is read first."""
    faults: list[Fault] = [*GPU, ("poison", {"step": 7, "what": "gradient"})]
    stop: Fault = ("at", {"hook": "on_train_batch_start", "step": 8, "deed": "term"})
    exit_code, _, err = cli.fit("--model.optimizer=SGD", "--model.optimizer.lr=0.1", faults=[*faults, stop])
    assert exit_code == 5, err
    assert "of batch 3 of epoch 2" in err
    assert content_of(only_run())["global_step"] == 5


def test_added_gradients_name_their_batches(cli: ForkServer) -> None:
    faults: list[Fault] = [("poison", {"step": 1, "what": "images"})]
    exit_code, _, err = cli.fit("--trainer.accumulate_grad_batches=2", faults=faults)
    assert exit_code == 5, err
    assert "batch 4 of epoch 1 (or one of the 1 before it, whose gradients are added up)" in err


def test_two_processes_stop_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them has a bad gradient; the true command, with a poisoned second process."""
    monkeypatch.chdir(tmp_path)
    tests = Path(__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CIFAR10")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]), "OMP_NUM_THREADS": "1"}
    environment["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the command sets it; the poison has loaded torch before
    done = subprocess.run(
        [
            sys.executable, str(tests / "faults" / "poisoned_cli.py"), "fit", "--data.source=sample",
            "--data.val_size=1000", "--trainer.limit_train_batches=6", "--trainer.max_epochs=1",
            "--trainer.devices=2", "--trainer.accelerator=cpu", "--model.net.channels=[4,4,8]",
            "--model.net.hidden_features=[8,8]", "--trainer.precision=32-true",
        ],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "a gradient of batch 4 of epoch 1 is not a finite number" in done.stderr
    assert done.stderr.count("\n") == 1
