"""Rows 1 to 3: kill -9 at any step, in a validation, in a save; the resumed run is the uninterrupted one."""

import os
import random
from pathlib import Path

import pytest
from faults.comparison import curves_of, epochs_of, run_differences
from faults.forked import Fault, ForkServer
from faults.injections import SAVE_PLACES
from faults.scenes import EVERYTHING, STEPS, at, until_it_ends
from run_folders import only_run, wait_for_the_next_second

from cifar_lightning.runs import checkpoint

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FAULTS_KILLS", "3"))
SAVE_KILLS = int(os.environ.get("FAULTS_SAVE_KILLS", "5"))
KINDS = ("on_train_batch_start", "on_validation_epoch_end", "in_save", "on_before_zero_grad", "on_train_epoch_start")


def drawn(number: int) -> tuple[list[Fault], str]:
    """The fault of a random case: a kill at a step, at an epoch's boundary, in a validation or in a save."""
    draw = random.Random(number)
    every_step: list[Fault] = [("save_every_step", {})] if draw.random() < 0.7 else []
    kind, aside = KINDS[number % len(KINDS)], ", saved at every step" if every_step else ""
    if kind == "in_save":
        save, place = draw.randrange(STEPS if every_step else 3), draw.choice(SAVE_PLACES)
        return [*every_step, ("in_save", {"number": save, "place": place})], f"{kind} {save} {place}{aside}"
    between_epochs = {"on_train_epoch_start": range(5, STEPS, 5), "on_validation_epoch_end": range(5, STEPS + 1, 5)}
    step = draw.choice(between_epochs.get(kind, range(STEPS)))
    return [*every_step, at(kind, step, "kill")], f"{kind} {step}{aside}"


@pytest.mark.parametrize("number", range(KILLS), ids=lambda number: drawn(number)[1])
def test_a_killed_run_ends_as_the_uninterrupted_one(cli: ForkServer, whole: Path, number: int) -> None:
    folder = until_it_ends(cli, [drawn(number)[0]])
    assert run_differences(whole, folder) == []
    assert epochs_of(folder) == [1, 2, 3]
    assert {tuple(step for step, _ in points) for points in curves_of(folder).values()} == {(1, 2, 3)}


def cut(step: int) -> list[Fault]:
    return [("save_every_step", {}), at("on_train_batch_start", step, "kill")]


def test_two_kills_in_one_epoch(cli: ForkServer, whole: Path) -> None:
    folder = until_it_ends(cli, [cut(7), cut(9)])
    assert run_differences(whole, folder) == []


def test_a_killed_run_goes_on_by_the_path_of_its_checkpoint(cli: ForkServer, whole: Path) -> None:
    exit_code, _, err = cli.run("fit", *EVERYTHING, faults=cut(8))
    assert exit_code == -9, err
    wait_for_the_next_second()
    exit_code, _, err = cli.run("fit", "--ckpt", str(only_run() / "checkpoints" / "last.ckpt"))
    assert exit_code == 0, err
    assert not err
    assert run_differences(whole, only_run()) == []


@pytest.mark.parametrize("number", range(SAVE_KILLS))
def test_a_kill_in_a_save_leaves_a_checkpoint_that_loads(cli: ForkServer, number: int) -> None:
    draw = random.Random(number)
    place, save = SAVE_PLACES[number % len(SAVE_PLACES)], draw.randrange(1, STEPS)
    faults: list[Fault] = [("save_every_step", {}), ("in_save", {"number": save, "place": place})]
    exit_code, _, err = cli.run("fit", *EVERYTHING, "--final_test=false", faults=faults)
    assert exit_code == -9, err
    content = checkpoint.load(only_run() / "checkpoints" / "last.ckpt").content
    # There is one save a step: an epoch's last step has only that of its end.
    assert content["global_step"] == (save + 1 if place == "after the move" else save)


@pytest.mark.parametrize("place", ["half written", "before the move"])
def test_an_epoch_that_was_logged_and_not_saved_is_there_once(cli: ForkServer, whole: Path, place: str) -> None:
    """Killed in the save of the second epoch's end, when its row and its points are written already."""
    folder = until_it_ends(cli, [[("in_save", {"number": 1, "place": place})]])
    assert run_differences(whole, folder) == []
    assert epochs_of(folder) == [1, 2, 3]
