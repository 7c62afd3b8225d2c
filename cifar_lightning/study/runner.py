"""Runs what is due, several at once where the slots allow, and stops cleanly when told to."""

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
from statistics import median
from types import FrameType
from typing import BinaryIO

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cifar_lightning.errors import ConfigError, OutputError, UserError
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.plan import Task
from cifar_lightning.study.store import FoundRun, find_runs

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


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

    A single run has the machine as `fit` alone would. Several share out the cores evenly, a thread to each core; on
    GPUs they go round them.

    Args:
        jobs: runs side by side; by default one for each GPU, or one on a CPU.
        devices_per_run: what the study's largest run asks for.

    Raises:
        ConfigError: there are more jobs than cores, or the runs want several devices each.
    """
    return share_out(jobs, devices_per_run, _cores(), _gpus())


def share_out(jobs: int | None, devices_per_run: int, cores: Sequence[int], gpus: Sequence[str]) -> list[Slot]:
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


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):  # Linux: those that this process may use
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name for name in visible.split(",") if name] or [str(index) for index in range(torch.cuda.device_count())]


PR_SET_PDEATHSIG = 1  # prctl(2)
EPOCH_LINE = re.compile(r"^epoch +(\d+)", re.MULTILINE)
TAIL_BYTES = 4000


class Child:
    """A run that has been started.

    It has a session of its own, so that a Ctrl-C in the terminal reaches the study alone, which passes it on once. On
    Linux it gets a SIGTERM, upon which it saves and stops, when the study itself is killed; elsewhere it trains on and
    keeps the study's lock until it ends.

    Args:
        task: what to run.
        logs: the study's folder.
        slot: the part of the machine.
        lock: a descriptor of the study's lock, which the run holds as well.

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
                self._process = subprocess.Popen(
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

    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self._process.poll()

    def send(self, signum: int) -> None:
        """Sends a signal, if it still runs."""
        self._process.send_signal(signum)

    def epoch(self) -> int:
        """The last epoch that it has reported, counted from 1; at first those that it had before it was started."""
        reported = EPOCH_LINE.findall(self._output())
        return int(reported[-1]) if reported else self.task.run.epochs if self.task.run else 0

    def last_words(self) -> str:
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
    """The `fit` that does a task: from the beginning, or on from its run's last checkpoint."""
    fit = [sys.executable, "-m", "cifar_lightning", "fit"]
    if task.run is not None and task.run.checkpoint is not None:
        return [*fit, "--ckpt", str(task.run.checkpoint)]
    folder = f"--trainer.default_root_dir={logs / task.system.name}"
    return [*fit, *task.system.flags(), f"--seed_everything={task.seed}", folder]


def _prepare(slot: Slot) -> Callable[[], None]:
    """What the new process does before it becomes `fit`; everything is looked up here, in front of the fork."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    set_cores = os.sched_setaffinity if hasattr(os, "sched_setaffinity") and slot.cores else None

    def prepare() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if set_cores is not None:
            set_cores(0, slot.cores)

    return prepare


def estimate_s(tasks: Sequence[Task], finished: Sequence[tuple[Task, FoundRun]]) -> float | None:
    """Seconds of what is due, one run after the other; None where nothing has finished to judge by.

    A system's own runs are taken where there are any; else all, by their operations. Side by side on a CPU the runs
    share its cores, and the sum stays about the same.

    Args:
        tasks: the plan.
        finished: finished runs with the tasks whose systems they are.
    """
    total = 0.0
    for task in tasks:
        if task.is_due:
            own = [run for other, run in finished if other.system == task.system]
            if own:
                per_epoch_s = median(_seconds(run) / max(run.epochs, 1) for run in own)
            elif finished:
                per_flop_s = median(_seconds(run) / _operations(other, run) for other, run in finished)
                images = int(median(run.record.data["train"] for _, run in finished))
                operations = task.resolved.train_flop_per_image * task.resolved.images_per_epoch(images)
                per_epoch_s = per_flop_s * operations
            else:
                return None
            total += per_epoch_s * task.epochs_left
    return total


def duration(seconds: float) -> str:
    """`2 h 05 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _seconds(run: FoundRun) -> float:
    timings = run.record.timings
    return float(timings["train_s"] + timings["val_s"])


def _operations(task: Task, run: FoundRun) -> float:
    images = task.resolved.images_per_epoch(run.record.data["train"])
    return task.resolved.train_flop_per_image * images * max(run.epochs, 1)


class Board:
    """Prints a line for each run that ends; on a terminal a bar below them shows the work that is done.

    The work is counted in operations, so that a run of 100 epochs or of a wider net takes its due part of the bar.

    Args:
        tasks: the plan.
        logs: the study's folder.
    """

    def __init__(self, tasks: Sequence[Task], logs: Path) -> None:
        self.logs = logs
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self._due = [task for task in tasks if task.is_due]
        self._ended = 0
        self._work_done = 0.0
        self._work = sum(_work(task, task.epochs_left) for task in self._due)
        self._began_at = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[left]}", markup=False),
            console=self.console,
            auto_refresh=False,  # drawn when the runs are looked at: a thread would take its share of the machine
            transient=True,
            expand=True,
            disable=not self.console.is_terminal,
        )
        self._bar_task = self._bar.add_task("", total=max(self._work, 1), left="")

    def __enter__(self) -> "Board":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self.console.print(text)
        self.console.file.flush()

    def show(self, running: Sequence[Child]) -> None:
        """Draws the bar anew."""
        if not self.console.is_terminal:
            return
        done = self._work_done + sum(
            _work(child.task, child.epoch() - (child.task.resolved.max_epochs - child.task.epochs_left))
            for child in running
        )
        elapsed_s = time.monotonic() - self._began_at
        left = f"{duration(elapsed_s * (self._work - done) / done)} left" if done > 0 else ""
        now = ", ".join(
            f"{child.task.system.name} s{child.task.seed} epoch {child.epoch()}/{child.task.resolved.max_epochs}"
            for child in running
        )
        text = f"{self._ended} of {len(self._due)} runs  {now}"
        self._bar.update(self._bar_task, description=text, completed=done, left=left)
        self._bar.refresh()

    def ended(self, child: Child) -> bool:
        """Prints the run's line. Returns whether it finished."""
        self._ended += 1
        self._work_done += _work(child.task, child.task.epochs_left)
        task, exit_code = child.task, child.exit_code()
        name = f"{task.system.name:<{max(len(other.system.name) for other in self._due)}}  seed {task.seed}"
        found = [run for run in find_runs(self.logs, None, task.system.name) if run.seed == task.seed]
        if exit_code == 0 and found:
            self.say(f"{name}  {_line(found[-1])}")
        elif exit_code in (130, 143):
            self.say(f"{name}  stopped in epoch {child.epoch() + 1}, goes on next time")
        else:
            how = f"was ended by signal {-exit_code}" if exit_code and exit_code < 0 else f"exit code {exit_code}"
            self.say(f"{name}  FAILED ({how}): {child.last_words()}; see {child.log}")
        return exit_code == 0


def _line(run: FoundRun) -> str:
    accuracy, loss = (METRICS[name] for name in ("test_accuracy", "test_loss"))
    took = duration(run.record.timings["train_s"])
    return (
        f"test accuracy {accuracy.show(accuracy.read(run.content))}  loss {loss.show(loss.read(run.content))}  "
        f"{run.epochs} epochs in {took}"
    )


def _work(task: Task, epochs: int) -> float:
    return task.resolved.train_flop_per_image * max(epochs, 0)


POLL_S = 0.2
WAIT_FOR_LOCK_S = 60.0  # a run whose study was killed needs a moment to save and stop
LOCK_NAME = ".lock"


class StudyStopped(UserError):  # noqa: N818 -- nothing went wrong
    """The user ended the study; its runs have saved where they were."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class _Signals:
    """Counts Ctrl-C and SIGTERM while a study runs; nothing is done in the handler."""

    def __init__(self) -> None:
        self.received: list[int] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        def note(signum: int, frame: FrameType | None) -> None:
            self.received.append(signum)

        previous = {signum: signal.signal(signum, note) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)


@contextlib.contextmanager
def locked(logs: Path) -> Iterator[BinaryIO]:
    """Holds a study's folder for this process and the runs that it starts; whoever dies lets go of it.

    Raises:
        OutputError: another study, or a run that one has left behind, is at work there; or it cannot be written.
    """
    path = logs / LOCK_NAME
    try:
        logs.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
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


def execute(tasks: Sequence[Task], slots: Sequence[Slot], logs: Path, lock: BinaryIO, board: Board, again: str) -> int:
    """Runs every task that is due.

    Args:
        tasks: the plan.
        slots: at most one run in each at a time.
        logs: the study's folder.
        lock: from `locked`.
        board: shows how far it is.
        again: the command that goes on with the study.

    Returns:
        How many of the runs failed.

    Raises:
        StudyStopped: Ctrl-C or SIGTERM.
    """
    waiting = [task for task in tasks if task.is_due]
    free, running = list(reversed(slots)), list[Child]()
    signals, passed_on, failures = _Signals(), 0, 0
    with signals.noted():
        while running or (waiting and not signals.received):
            while free and waiting and not signals.received:
                running.append(Child(waiting.pop(0), logs, free.pop(), lock.fileno()))
            time.sleep(POLL_S)
            for signum in signals.received[passed_on:]:
                board.say(f"{signal.Signals(signum).name}: {len(running)} run(s) save and stop (once more: at once)")
                for child in running:
                    child.send(signum)
                passed_on += 1
            for child in [child for child in running if child.exit_code() is not None]:
                running.remove(child)
                free.append(child.slot)
                if not board.ended(child) and not signals.received:
                    failures += 1
            board.show(running)
    if signals.received:
        raise StudyStopped(f"stopped; go on with: {again}", signals.received[0])
    return failures
