"""Trains the due runs of a study in processes of their own, several at once, and stops them cleanly."""

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from rich.console import Console

from cifar_lightning.errors import ConfigError, OutputError, UserError
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.plan import Task, duration
from cifar_lightning.study.store import find_runs

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
EPOCH_LINE = re.compile(r"^epoch +(\d+)", re.MULTILINE)
TAIL_BYTES = 4000
PR_SET_PDEATHSIG = 1  # prctl(2)
POLL_S = 0.2
WAIT_FOR_LOCK_S = 60.0  # a run whose study was killed needs a moment to save and stop


@dataclass(frozen=True)
class Slot:
    """A run's share: its cores (empty: all, as without a study) and its GPU's number (None: as without a study)."""

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        """What the run's process gets set."""
        settings = dict.fromkeys(THREAD_SETTINGS, str(len(self.cores))) if self.cores else {}
        return settings | ({"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu is not None else {})


def make_slots(jobs: int | None, devices_per_run: int = 1) -> list[Slot]:
    """The slots of `--jobs`.

    A single run has the machine as `fit` alone would. Several runs share the cores evenly, with a thread on each core,
    and take the GPUs in turn.

    Args:
        jobs: runs side by side; by default one for each GPU, or one on a CPU.
        devices_per_run: what the study's largest run asks for.

    Raises:
        ConfigError: there are more jobs than cores, or the runs want several devices each.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux: the cores that this process may use
    cores = sorted(os.sched_getaffinity(0)) if has_affinity else list(range(os.cpu_count() or 1))
    gpus: list[str] = []
    if torch.cuda.is_available():
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        gpus = visible or [str(index) for index in range(torch.cuda.device_count())]
    return allocate_devices(jobs, devices_per_run, cores, gpus)


def allocate_devices(jobs: int | None, devices_per_run: int, cores: Sequence[int], gpus: Sequence[str]) -> list[Slot]:
    """The same for a given machine: the numbers of its cores and the names of its GPUs."""
    if jobs is None:
        jobs = len(gpus) if gpus and devices_per_run == 1 else 1
    if jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {jobs}")
    if jobs == 1:
        return [Slot()]
    if devices_per_run > 1:
        raise ConfigError(f"--jobs {jobs}: a system of this study trains on {devices_per_run} devices; give --jobs 1")
    share = len(cores) // jobs
    if share < 1:
        raise ConfigError(f"--jobs {jobs}: this machine has {len(cores)} cores; give at most that")
    return [
        Slot(tuple(cores[slot * share : (slot + 1) * share]), gpus[slot % len(gpus)] if gpus else None)
        for slot in range(jobs)
    ]


class Child:
    """The process of one run.

    It has a session of its own: Ctrl-C in the terminal reaches the study alone, which passes it on once. When the study
    is killed, Linux sends the run SIGTERM, on which it saves and stops. Elsewhere it trains on. Either way it holds the
    study's lock until it ends.

    Args:
        task: what to run.
        logs: the study's folder.
        slot: its share of the machine.
        lock: descriptor of the study's lock, which the run inherits.

    Raises:
        OutputError: the log cannot be written.
    """

    def __init__(self, task: Task, logs: Path, slot: Slot, lock: int) -> None:
        self.task = task
        self.slot = slot
        self.log = logs / task.system.name / f"s{task.seed}.log"
        self._first_byte = 0
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self._first_byte = log.tell()
                self.process = subprocess.Popen(
                    command(task, logs),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | slot.environment(),
                    start_new_session=True,
                    pass_fds=[lock],
                    preexec_fn=_prepare(slot),
                )
        except OSError as error:
            raise OutputError(f"cannot start a run with its log {self.log}: {error.strerror}") from error

    def epoch(self) -> int:
        """The last epoch that it has reported, counted from 1; before the first report, those of its checkpoint."""
        reported = EPOCH_LINE.findall(self._output())
        return int(reported[-1]) if reported else self.task.run.epochs if self.task.run else 0

    def progress(self) -> str:
        """What the run is and how far."""
        return f"{self.task.system.name} s{self.task.seed} epoch {self.epoch()}/{self.task.resolved.max_epochs}"

    def error_line(self) -> str:
        """The error line of a run that failed, or the last line of its output."""
        lines = [line.strip() for line in self._output().splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or ["no output"])[-1]

    def _output(self) -> str:
        with self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._first_byte, end - TAIL_BYTES))
            return log.read().decode("utf-8", errors="replace")


def command(task: Task, logs: Path) -> list[str]:
    """The `fit` command of a task: from the beginning, or from its run's last checkpoint."""
    fit = [sys.executable, "-m", "cifar_lightning", "fit"]
    if task.run is not None and task.run.checkpoint is not None:
        return [*fit, "--ckpt", str(task.run.checkpoint)]
    folder = f"--trainer.default_root_dir={logs / task.system.name}"
    # A study never falls back on the sample.
    source = "sample" if task.resolved.config["data"]["source"] == "sample" else "official"
    return [*fit, *task.system.flags(), f"--data.source={source}", f"--seed_everything={task.seed}", folder]


def _prepare(slot: Slot) -> Callable[[], None]:
    """What the new process does before it becomes `fit`. Everything is looked up here, before the fork."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    set_cores = os.sched_setaffinity if hasattr(os, "sched_setaffinity") and slot.cores else None

    def prepare() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if set_cores is not None:
            set_cores(0, slot.cores)

    return prepare


class StudyStopped(UserError):  # noqa: N818 -- nothing went wrong
    """The user ended the study; its runs have saved where they were."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """A list to which Ctrl-C and SIGTERM are added while a study runs; the handler does nothing else."""
    received: list[int] = []
    handled = (signal.SIGINT, signal.SIGTERM)
    previous = {signum: signal.signal(signum, lambda number, frame: received.append(number)) for signum in handled}
    try:
        yield received
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def locked(logs: Path) -> Iterator[BinaryIO]:
    """Locks a study's folder for this process and for the runs that inherit the lock.

    It is flock on an open file and not `filelock`, which unlocks for all heirs when the study lets go: a run that a
    failed study leaves behind keeps the folder until it ends.

    Raises:
        OutputError: another study, or a run that one has left behind, holds the lock; or the folder cannot be written.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True)
        file = (logs / ".lock").open("ab")
    except OSError as error:
        raise OutputError(f"the study's folder {logs} cannot be written: {error.strerror}") from error
    with file:
        deadline = time.monotonic() + WAIT_FOR_LOCK_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"{logs} is in use by another study, or by a run that one left behind; wait for it or end it"
                    ) from None
                time.sleep(POLL_S)
        yield file


def execute(tasks: Sequence[Task], slots: Sequence[Slot], logs: Path, lock: BinaryIO, again: str) -> int:
    """Runs every task that is due, and prints a line for each run that ends. On a terminal a line says what is running.

    Args:
        tasks: the plan.
        slots: at most one run in each at a time.
        logs: the study's folder.
        lock: from `locked`.
        again: the command that resumes the study.

    Returns:
        How many of the runs failed.

    Raises:
        StudyStopped: Ctrl-C or SIGTERM.
    """
    due = [task for task in tasks if task.is_due]
    width = max((len(task.system.name) for task in due), default=0)
    waiting, free, running = list(due), list(reversed(slots)), list[Child]()
    passed_on = failures = 0
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with _noted_signals() as received, console.status("", refresh_per_second=1) as status:
        while running or (waiting and not received):
            while free and waiting and not received:
                running.append(Child(waiting.pop(0), logs, free.pop(), lock.fileno()))
            time.sleep(POLL_S)
            for signum in received[passed_on:]:
                console.print(
                    f"{signal.Signals(signum).name}: {len(running)} run(s) save and stop (once more: at once)"
                )
                for child in running:
                    child.process.send_signal(signum)  # nothing where it has ended
                passed_on += 1
            for child in [child for child in running if child.process.poll() is not None]:
                running.remove(child)
                free.append(child.slot)
                console.print(f"{child.task.system.name:<{width}}  seed {child.task.seed}  {_outcome(child, logs)}")
                console.file.flush()
                failures += child.process.returncode != 0 and not received
            if console.is_terminal:
                done = len(due) - len(waiting) - len(running)
                status.update(f"{done} of {len(due)} runs  {', '.join(child.progress() for child in running)}")
    if received:
        raise StudyStopped(f"stopped; go on with: {again}", received[0])
    return failures


def _outcome(child: Child, logs: Path) -> str:
    """How a run has ended, as its line says it."""
    task, exit_code = child.task, child.process.returncode
    found = [run for run in find_runs(logs, None, task.system.name) if run.seed == task.seed]
    if exit_code == 0 and found:
        run = found[-1]
        accuracy, loss = (METRICS[key].show(METRICS[key].read(run.content)) for key in ("test_accuracy", "test_loss"))
        took = duration(run.record.timings["train_s"])
        return f"test accuracy {accuracy}  loss {loss}  {run.epochs} epochs in {took}"
    if exit_code in (130, 143):
        return f"stopped in epoch {child.epoch() + 1}, goes on next time"
    how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return f"FAILED ({how}): {child.error_line()}; see {child.log}"
