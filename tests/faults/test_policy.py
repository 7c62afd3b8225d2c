"""Row 14: what happens when a run goes on with another batch size, seed, precision or machine."""

import json
from pathlib import Path

import pytest
from faults.comparison import content_of
from faults.forked import ForkServer
from faults.scenes import at
from run_folders import only_run
from tiny import TINY_FLAGS

from cifar_lightning.runs import checkpoint
from cifar_lightning.runs.settings import config_diff

pytestmark = pytest.mark.slow


def stopped(cli: ForkServer, step: int, *flags: str) -> Path:
    """A run that was stopped in its second epoch, or at the end of the first."""
    exit_code, _, err = cli.fit(*flags, faults=[at("on_train_batch_start", step, "int")])
    assert exit_code == 130, err
    return only_run()


# Step 7 is in mid-epoch; a stop that is asked for in an epoch's last batch waits for the epoch's end.
@pytest.mark.parametrize("flag", ["--data.batch_size=10", "--seed_everything=1", "--data.augment.flip=random"])
def test_refused_within_an_epoch(cli: ForkServer, flag: str) -> None:
    folder = stopped(cli, 7)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    exit_code, _, err = cli.run("fit", "--ckpt", "last", flag)
    assert exit_code == 2
    assert "cannot change in the middle of an epoch" in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--data.batch_size=10", "data.batch_size 8 before, 10 now"),
        ("--seed_everything=1", "seed_everything 0 before, 1 now"),
        ("--trainer.precision=bf16-mixed", "trainer.precision 32-true before, bf16-mixed now"),
    ],
)
def test_told_after_an_epoch(cli: ForkServer, flag: str, told: str) -> None:
    stopped(cli, 4, "--trainer.precision=32-true")
    exit_code, _, err = cli.run("fit", "--ckpt", "last", flag)
    assert exit_code == 0, err
    assert err == f"warning: the run goes on, but not bit for bit as it would have: {told}\n"
    assert content_of(only_run())["epoch"] == 1


def test_another_thread_count_is_told(cli: ForkServer) -> None:
    stopped(cli, 7)
    exit_code, _, err = cli.run("fit", "--ckpt", "last", threads=2)
    assert exit_code == 0, err
    assert err == "warning: the run goes on, but not bit for bit as it would have: threads 1 before, 2 now\n"


def test_another_machine_is_told(cli: ForkServer) -> None:
    folder = stopped(cli, 7)
    path = folder / "checkpoints" / "last.ckpt"
    content = checkpoint.load(path).content
    machine = content["cifar_lightning"]["machine"]
    assert set(machine) == {"device", "devices", "threads", "cpu", "torch"}
    machine |= {"device": "NVIDIA H100", "torch": "2.11.0"}
    checkpoint.write(content, path)
    exit_code, _, err = cli.run("fit", "--ckpt", "last")
    assert exit_code == 0, err
    assert "device NVIDIA H100 before, cpu now; torch 2.11.0 before" in err
    assert err.count("\n") == 1


def test_the_same_is_not_told() -> None:
    config, machine = {"data": {"batch_size": 8}, "seed_everything": 0}, {"threads": 1}
    assert config_diff(config, json.loads(json.dumps(config)), machine, dict(machine)) is None
    other = {"data": {"batch_size": 8}, "seed_everything": 0, "trainer": {"max_epochs": 3}, "final_test": False}
    assert config_diff(config | {"trainer": {"max_epochs": 2}}, other, machine, machine) is None
    nets = [{"model": {"net": {"class_path": "Net", "init_args": {"dropout": value}}}} for value in (0.3, 0.0)]
    assert "model.net.dropout 0.3 before, 0.0 now" in str(config_diff(*nets, machine, machine))
    assert "threads unknown before, 1 now" in str(config_diff(config, config, {}, machine))


def test_a_schedule_keeps_the_batch_size_after_an_epoch_too(cli: ForkServer) -> None:
    exit_code, _, err = cli.run(
        "fit", *TINY_FLAGS, "--model.scheduler=CosineLR", faults=[at("on_train_batch_start", 4, "int")]
    )
    assert exit_code == 130, err
    exit_code, _, err = cli.run("fit", "--ckpt", "last", "--data.batch_size=10")
    assert exit_code == 2
    assert "the schedule has counted its steps by it" in err
