"""Studies that really run: several at once, failures that stay visible, and going on after Ctrl-C and after a kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from study.fakes import BASE, write_study

from cifar_lightning.cli import main
from cifar_lightning.runner import job
from cifar_lightning.runner.job import Job
from cifar_lightning.study import command as study_command
from cifar_lightning.study import runner

pytestmark = pytest.mark.slow

LOGS = Path("lightning_logs/tiny")
PATIENCE_S = 120.0

SEVERAL = """\
systems:
  plain: {config: base.yaml, seeds: [1]}
  broken: {config: base.yaml, overrides: {model.optimizer.lr: 1.0e+30}}
claims:
  - says: The loss falls with every epoch.
    checks: [{system: plain, metric: train_loss, expect: falls}]
"""

# Enough epochs for a signal to come in the middle of them.
LONG = BASE.replace("max_epochs: 3", "max_epochs: 12").replace("limit_train_batches: 4", "limit_train_batches: 8")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder näme"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # The charts have tests of their own.
    monkeypatch.setattr("cifar_lightning.study.command.draw", lambda table: {})


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here and in the runs: on a busy machine two threads wait for each other at every step of so small a net."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def statuses() -> dict[str, str]:
    records = LOGS.glob("*/*/*/run.json")
    return {path.parts[2] + path.parent.name[-3:]: json.loads(path.read_text())["status"] for path in records}


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def epochs_done() -> int:
    files = list(LOGS.glob("plain/*/*/metrics.csv"))
    return len(files[0].read_text().splitlines()) - 1 if files else 0


def test_runs_side_by_side_with_one_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    study = str(write_study(SEVERAL))
    assert main(["study", study, "--dry-run"]) == 0
    assert "2 to run; how long it takes is not known" in capfd.readouterr().out
    assert not LOGS.exists()
    jobs = "2" if len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else "12") > 1 else "1"
    assert main(["study", study, "--jobs", jobs]) == 1
    out, err = capfd.readouterr()
    assert statuses() == {"plain-s1": "finished", "broken-s0": "failed"}
    lines = [line for line in out.splitlines() if "seed" in line and ("test accuracy" in line or "FAILED" in line)]
    assert len(lines) == 2
    (failed,) = [line for line in lines if "FAILED" in line]
    assert failed.startswith(
        "broken  seed 0  FAILED (exit code 5): error: the loss of batch 2 of epoch 1 is not a finite number"
    )
    assert "error: 1 of 2 runs failed" in err
    record = json.loads(next(LOGS.glob("plain/*/*-s1/run.json")).read_text())
    if jobs == "2":
        assert record["hardware"]["threads"] == len(os.sched_getaffinity(0)) // 2
    assert record["command"].startswith(
        "python -m cifar_lightning fit --config base.yaml --data.source=sample --seed_everything=1"
    )
    table = json.loads((LOGS / "study.json").read_text())
    assert [run["status"] for run in table["runs"]] == ["finished", "failed"]
    assert table["systems"][0]["metrics"]["test_accuracy"]["n"] == 1

    # Once more: nothing is run, the failure is not forgotten, the table has the same bytes.
    before = (LOGS / "study.json").read_bytes(), sorted(LOGS.glob("*/*/*/run.json"))
    (LOGS / "study.json").unlink()
    assert main(["study", study]) == 1
    out, err = capfd.readouterr()
    assert "nothing is left to run" in out
    assert before == ((LOGS / "study.json").read_bytes(), sorted(LOGS.glob("*/*/*/run.json")))


def test_it_goes_on_after_ctrl_c_and_after_a_kill(one_thread: None, capfd: pytest.CaptureFixture[str]) -> None:
    study = str(write_study("systems: {plain: {config: base.yaml}}", base=LONG))

    def interrupt() -> None:
        wait_until(lambda: epochs_done() >= 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    exit_code = main(["study", study])
    thread.join()
    out, err = capfd.readouterr()
    assert exit_code == 130
    assert f"error: stopped; go on with: python -m cifar_lightning study {study}" in err
    assert "SIGINT: 1 run(s) save and stop" in out
    assert statuses() == {"plain-s0": "interrupted"}
    stopped_after = epochs_done()
    assert 1 <= stopped_after < 12

    command = [sys.executable, "-m", "cifar_lightning", "study", study]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: epochs_done() > stopped_after)
        process.kill()  # the study alone, with its run left behind
    killed_after = epochs_done()
    assert killed_after < 12

    capfd.readouterr()
    assert main(["study", study]) == 0
    assert "test accuracy" in capfd.readouterr().out
    (folder,) = LOGS.glob("plain/*/*-s0")
    assert statuses() == {"plain-s0": "finished"}
    assert len(json.loads((folder / "run.json").read_text())["resumed"]) == 2

    # It is the run that was not stopped.
    assert main(["fit", "--config", "base.yaml", "--trainer.default_root_dir=whole"]) == 0
    (whole,) = Path("whole").glob("*/*")
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    ours, other = [json.loads((path / "run.json").read_text())["metrics"] for path in (folder, whole)]
    assert ours == other


def test_two_studies_in_one_folder(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(job, "WAIT_FOR_LOCK_S", 0.3)
    study = str(write_study("systems: {plain: {config: base.yaml}}"))
    with job.locked(LOGS / ".lock"):
        assert main(["study", study]) == 6
    assert "lightning_logs/tiny is in use by another study" in capfd.readouterr().err


def test_a_run_that_is_ended_from_outside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    kill = "import os; print('training', flush=True); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(runner, "command", lambda task, logs: [sys.executable, "-c", kill])
    study = str(write_study("systems: {plain: {config: base.yaml}}"))
    assert main(["study", study]) == 1
    out, err = capfd.readouterr()
    assert "plain  seed 0  FAILED (was ended by signal 9): training; see lightning_logs/tiny/plain/s0.log" in out
    assert "1 of 1 runs failed" in err
    assert (LOGS / "report.html").is_file()


class Losing:
    """Loses the worker of every job on its node."""

    def __init__(self) -> None:
        self.room, self.running, self.submitted = 1, dict[Job, str](), list[Job]()

    def submit(self, job: Job) -> None:
        self.submitted.append(job)
        self.running[job] = "node-7"

    def ended(self, timeout_s: float) -> list[tuple[Job, None]]:
        return [(job, None) for job in self.running]

    def stop(self, signum: int) -> None:
        raise AssertionError("nobody asked to stop")

    end = submit


def test_a_run_whose_workers_are_lost_goes_on_three_times(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    losing = Losing()
    monkeypatch.setattr(study_command, "runner_of", lambda *arguments: contextlib.nullcontext(losing))
    study = str(write_study("systems: {plain: {config: base.yaml}}"))
    assert main(["study", study]) == 1
    out = capfd.readouterr().out
    assert out.count("plain  seed 0  lost its worker in epoch 1, goes on elsewhere  (node-7)") == 3
    assert out.count("plain  seed 0  FAILED (its workers were lost 4 times)") == 1
    assert len(losing.submitted) == 4


def test_what_a_run_s_process_gets(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Threads and a session of its own; and its last run's output is not taken for its own."""
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.getsid(0) == os.getpid(), flush=True)"
    monkeypatch.setattr(runner, "command", lambda task, logs: [sys.executable, "-c", code])
    environment = {"OMP_NUM_THREADS": "7"}
    monkeypatch.setattr("cifar_lightning.runner.options.job_environments", lambda *wishes: [environment])
    study = str(write_study("systems: {plain: {config: base.yaml}}"))
    log = LOGS / "plain" / "s0.log"
    log.parent.mkdir(parents=True)
    log.write_text("error: of an earlier run\n")
    assert main(["study", study]) == 1  # it has left no run behind
    assert log.read_text().splitlines() == ["error: of an earlier run", "7 True"]
    assert "FAILED (exit code 0): 7 True; see" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "study nowhere: No such file or directory"),
        (["tiny.yaml", "--job", "2"], "study: unknown argument --job, did you mean '--jobs'?"),
        (["tiny.yaml", "--jobs", "999"], "--jobs 999: this machine has"),
        (["tiny.yaml", "--publish"], "--publish needs a folder"),
        ([], "study: the following arguments are required: PATH"),
    ],
)
def test_wrong_flags(flags: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    write_study("systems: {plain: {config: base.yaml}}")
    assert main(["study", *flags]) == 2
    err = capfd.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not LOGS.exists()
