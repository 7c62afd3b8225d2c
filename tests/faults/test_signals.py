"""Rows 4, 5 and 34: SIGTERM, Ctrl-C, SIGHUP, SIGUSR1, SIGUSR2 in every phase; a second one corrupts nothing."""

from pathlib import Path

import pytest
from faults.comparison import content_of, run_differences
from faults.forked import Fault, ForkServer
from faults.injections import SAVE_PLACES
from faults.scenes import EVERYTHING, assert_no_remains, at
from run_folders import only_run, record_of, wait_for_the_next_second

pytestmark = pytest.mark.slow

CODES = {"term": 143, "int": 130, "hup": 129, "usr1": 138, "usr2": 140}
WORDS = {"term": "terminated", "int": "interrupted", "hup": "ended by SIGHUP", "usr1": "ended by SIGUSR1"}


@pytest.mark.parametrize("deed", CODES)
def test_before_there_is_a_run(cli: ForkServer, deed: str) -> None:
    exit_code, _, err = cli.run("fit", *EVERYTHING, faults=[("in_reading_data", {"deed": deed})])
    assert exit_code == CODES[deed]
    assert err == f"error: {WORDS.get(deed, 'ended by SIGUSR2')}\n"
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("deed", ["term", "int", "hup"])
def test_before_training_has_begun(cli: ForkServer, deed: str) -> None:
    exit_code, _, err = cli.run("fit", *EVERYTHING, faults=[at("on_fit_start", 0, deed)])
    assert exit_code == CODES[deed]
    assert err.count("\n") == 1
    assert record_of(only_run())["status"] == "interrupted"
    assert_no_remains(only_run())
    exit_code, _, err = cli.run("fit", "--ckpt", "last")  # and not from the start, in silence
    assert exit_code == 4
    assert "no run with a checkpoint" in err


@pytest.mark.parametrize(
    ("hook", "step", "deed"),
    [
        ("on_train_batch_start", 7, "term"),
        ("on_train_batch_start", 7, "hup"),
        ("on_train_batch_start", 7, "usr1"),
        ("on_validation_batch_start", 10, "term"),
        ("on_validation_batch_start", 10, "int"),
        ("on_test_batch_start", 0, "term"),
        ("on_test_batch_start", 0, "int"),
        ("on_test_batch_start", 0, "usr1"),
    ],
)
def test_a_stopped_run_ends_as_the_uninterrupted_one(
    cli: ForkServer, whole: Path, hook: str, step: int, deed: str
) -> None:
    exit_code, _, err = cli.run("fit", *EVERYTHING, faults=[at(hook, step, deed)])
    assert exit_code == CODES[deed], err
    assert "Traceback" not in err
    saved = {"on_train_batch_start": 8, "on_validation_batch_start": 10, "on_test_batch_start": 15}
    assert content_of(only_run())["global_step"] == saved[hook]
    assert record_of(only_run())["status"] == "interrupted"
    wait_for_the_next_second()
    exit_code, _, err = cli.run("fit", "--ckpt", "last")
    assert exit_code == 0, err
    assert run_differences(whole, only_run()) == []


@pytest.mark.parametrize("place", [*SAVE_PLACES, "next step"])
def test_a_second_ctrl_c_corrupts_nothing(cli: ForkServer, whole: Path, place: str) -> None:
    """The first asks for a save and a stop; the second comes in the middle of that save, or before it."""
    faults: list[Fault] = [at("on_train_batch_start", 7, "int")]
    # The save of the first epoch's end is number 0.
    second: Fault = ("in_save", {"number": 1, "place": place, "deed": "int"})
    faults.append(at("on_before_zero_grad", 7, "int") if place == "next step" else second)
    exit_code, _, err = cli.run("fit", *EVERYTHING, faults=faults)
    assert exit_code == 130, err
    assert "stopped at once" in err
    assert content_of(only_run())["global_step"] == (8 if place == "after the move" else 5)
    assert_no_remains(only_run())
    wait_for_the_next_second()
    exit_code, _, err = cli.run("fit", "--ckpt", "last")
    assert exit_code == 0, err
    assert run_differences(whole, only_run()) == []
