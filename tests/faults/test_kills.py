"""Rows 1 to 3: kill -9 at any step, in a validation, in a save; the resumed run is the uninterrupted one."""

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from faults.comparison import content_of, curves_of, epochs_of, only_run, run_differences
from faults.forked import Fault, ForkServer
from faults.injections import SAVE_PLACES
from tiny import TINY_FLAGS

from cifar_lightning import checkpoint

# Everything that has a state: augmentation, dropout (the net's own), a schedule, averaged weights, Muon, bf16.
EVERYTHING = [
    *TINY_FLAGS, "--trainer.max_epochs=3", "--trainer.precision=bf16-mixed", "--model.optimizer=MuonSGD",
    "--model.optimizer.lr=0.02", "--model.optimizer.dense_lr=0.05", "--model.scheduler=TriangularLR",
    "--model.scheduler.start=0.2", "--model.scheduler.peak=0.4", "--model.scheduler.end=0.1",
    "--data.augment.flip=alternating", "--data.augment.crop_padding=2", "--data.augment.cutout=6",
    "--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.8",
]  # fmt: skip
STEPS = 15  # 5 an epoch
KILLS = int(os.environ.get("FAULTS_KILLS", "3"))
SAVE_KILLS = int(os.environ.get("FAULTS_SAVE_KILLS", "5"))


@pytest.fixture(scope="module")
def whole(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    from faults.injections import TINY_TRAINED

    folder = tmp_path_factory.mktemp("whole")
    TINY_TRAINED.write_folder(folder / "data")
    exit_code, _, err = fork_server.run("fit", *EVERYTHING, folder=folder)
    assert exit_code == 0, err
    return only_run(folder / "lightning_logs")


def drawn(number: int) -> tuple[list[Fault], str]:
    """The fault of a random case: kills at a step, at an epoch's boundary, in a validation or in a save."""
    draw = random.Random(number)
    faults: list[Fault] = [("save_every_step", {})] if draw.random() < 0.7 else []
    kind = draw.choice(["on_train_batch_start", "on_before_zero_grad", "boundary", "validation", "save"])
    step = draw.randrange(STEPS)
    if kind == "boundary":
        step = 5 * draw.randrange(1, 3)
        faults.append(("at", {"hook": "on_train_epoch_start", "step": step, "deed": "kill"}))
    elif kind == "validation":
        step = 5 * draw.randrange(1, 4)
        faults.append(("at", {"hook": "on_validation_epoch_end", "step": step, "deed": "kill"}))
    elif kind == "save":
        step = draw.randrange(STEPS if len(faults) else 3)
        faults.append(("in_save", {"number": step, "place": draw.choice(SAVE_PLACES)}))
    else:
        faults.append(("at", {"hook": kind, "step": step, "deed": "kill"}))
    return faults, f"{kind} {step}{', saved at every step' if faults[0][0] == 'save_every_step' else ''}"


def until_it_ends(cli: ForkServer, cuts: list[list[Fault]], *how: str) -> Path:
    """Starts, is killed by the first cut, goes on, is killed by the next, and ends; returns the run's folder."""
    begun = False
    for faults in [*cuts, []]:
        wait_for_the_next_second()
        resumes = begun and any(Path().glob("lightning_logs/*/*/checkpoints/last.ckpt"))
        if begun and not resumes:  # killed before the first save: there is nothing to go on with, and it says so
            exit_code, _, err = cli.run("fit", *(how or ("--ckpt", "last")))
            assert exit_code == 4, err
            shutil.rmtree("lightning_logs")
        arguments = list(how or ("--ckpt", "last")) if resumes else EVERYTHING
        exit_code, _, err = cli.run("fit", *arguments, faults=faults)
        assert exit_code == (-9 if faults else 0), err
        begun = True
    folder = only_run()
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")], "something was left behind"
    return folder


def wait_for_the_next_second() -> None:
    """TensorBoard reads a run's files in the order of their names, which hold the second they were made in."""
    time.sleep(1 - time.time() % 1)


@pytest.mark.parametrize("number", range(KILLS), ids=lambda number: drawn(number)[1])
def test_a_killed_run_ends_as_the_uninterrupted_one(cli: ForkServer, whole: Path, number: int) -> None:
    folder = until_it_ends(cli, [drawn(number)[0]])
    assert run_differences(whole, folder) == []
    assert epochs_of(folder) == [1, 2, 3]
    assert {tuple(step for step, _ in points) for points in curves_of(folder).values()} == {(1, 2, 3)}


def cut(step: int) -> list[Fault]:
    return [("save_every_step", {}), ("at", {"hook": "on_train_batch_start", "step": step, "deed": "kill"})]


def test_two_kills_in_one_epoch(cli: ForkServer, whole: Path) -> None:
    folder = until_it_ends(cli, [cut(7), cut(9)])
    assert run_differences(whole, folder) == []


def test_a_killed_run_goes_on_by_the_path_of_its_checkpoint(cli: ForkServer, whole: Path) -> None:
    exit_code, _, err = cli.run("fit", *EVERYTHING, faults=cut(8))
    assert exit_code == -9, err
    wait_for_the_next_second()
    exit_code, _, err = cli.run("fit", "--ckpt", str(only_run() / "checkpoints" / "last.ckpt"))
    assert exit_code == 0, err
    assert run_differences(whole, only_run()) == []


@pytest.mark.parametrize("number", range(SAVE_KILLS))
def test_a_kill_in_a_save_leaves_a_checkpoint_that_loads(cli: ForkServer, number: int) -> None:
    draw = random.Random(1000 + number)
    place, save = draw.choice(SAVE_PLACES), draw.randrange(1, STEPS)
    faults: list[Any] = [("save_every_step", {}), ("in_save", {"number": save, "place": place})]
    exit_code, _, err = cli.run("fit", *EVERYTHING, "--final_test=false", faults=faults)
    assert exit_code == -9, err
    content = checkpoint.load(only_run() / "checkpoints" / "last.ckpt")
    # An epoch's fifth step is saved once, at its end.
    assert content["global_step"] == (save + 1 if place == "after the move" else save)
    assert content_of(only_run())["global_step"] == content["global_step"]
