"""Trains the due runs of a study in processes of their own, several at once, and stops them cleanly."""

import contextlib
import ctypes
import fcntl
import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from rich.console import Console

from cifar_lightning.errors import ConfigError, OutputError, UserError
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.plan import Task, duration
from cifar_lightning.study.store import find_runs

EPOCH_LINE = re.compile(r"^epoch +(\d+)", re.MULTILINE)
PR_SET_PDEATHSIG = 1  # prctl(2)
POLL_S = 0.2
WAIT_FOR_LOCK_S = 60.0  # a run whose study was killed needs a moment to save and stop


def job_environments(jobs: int | None, devices_per_run: int) -> list[dict[str, str]]:
    """The environment variables that each of `--jobs` runs side by side gets set.

    A single run has the machine as `fit` alone would. Several share the cores by their number of threads, and take the
    GPUs in turn. By default there is one for each GPU, or one where a run asks for several devices or there is no GPU.

    Raises ConfigError: there are more jobs than cores, or the runs want several devices each.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu_count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpu_count)))
    gpus = names.split(",")[:gpu_count]
    if jobs is None:
        jobs = len(gpus) if gpus and devices_per_run == 1 else 1
    if jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {jobs}")
    if jobs == 1:
        return [{}]
    if devices_per_run > 1:
        raise ConfigError(f"--jobs {jobs}: a system of this study trains on {devices_per_run} devices; give --jobs 1")
    if jobs > cores:
        raise ConfigError(f"--jobs {jobs}: this machine has {cores} cores; give at most that")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(cores // jobs))
    return [threads | ({"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} if gpus else {}) for job in range(jobs)]


class Child:
    """The process of one run.

    It has a session of its own: Ctrl-C in the terminal reaches the study alone, which passes it on once. When the study
    is killed, Linux sends the run SIGTERM, on which it saves and stops. Elsewhere it trains on. Either way it holds the
    study's lock, whose descriptor it inherits, until it ends.

    Raises OutputError: the log cannot be written.
    """

    def __init__(self, task: Task, logs: Path, environment: dict[str, str], lock: int) -> None:
        self.task = task
        self.environment = environment
        self.log = logs / task.system.name / f"s{task.seed}.log"
        prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # looked up before the fork
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self._first_byte = log.tell()
                self.process = subprocess.Popen(
                    command(task, logs),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | environment,
                    start_new_session=True,
                    pass_fds=[lock],
                    preexec_fn=functools.partial(prctl, PR_SET_PDEATHSIG, signal.SIGTERM) if prctl else None,
                )
        except OSError as error:
            raise OutputError(f"cannot start a run with its log {self.log}: {error.strerror}") from error

    def epoch(self) -> int:
        """The last epoch that it has reported, counted from 1; before the first report, those of its checkpoint."""
        reported = EPOCH_LINE.findall(self._output())
        return int(reported[-1]) if reported else self.task.run.epochs if self.task.run else 0

    def progress(self) -> str:
        """The run and its epoch, in words."""
        return f"{self.task.system.name} s{self.task.seed} epoch {self.epoch()}/{self.task.resolved.max_epochs}"

    def error_line(self) -> str:
        """The error line of a run that failed, or the last line of its output."""
        lines = [line.strip() for line in self._output().splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or ["no output"])[-1]

    def _output(self) -> str:
        return self.log.read_bytes()[self._first_byte :].decode("utf-8", errors="replace")


def command(task: Task, logs: Path) -> list[str]:
    """The `fit` command of a task: from the beginning, or from its run's last checkpoint."""
    fit = [sys.executable, "-m", "cifar_lightning", "fit"]
    if task.run is not None and task.run.checkpoint is not None:
        return [*fit, "--ckpt", str(task.run.checkpoint)]
    folder = f"--trainer.default_root_dir={logs / task.system.name}"
    # A study never falls back on the sample.
    source = "sample" if task.resolved.config["data"]["source"] == "sample" else "official"
    return [*fit, *task.system.flags(), f"--data.source={source}", f"--seed_everything={task.seed}", folder]


@contextlib.contextmanager
def locked(logs: Path) -> Iterator[BinaryIO]:
    """Locks a study's folder for this process and for the runs that inherit the lock.

    `filelock` would unlock for all heirs when the study lets go. With flock, a run that a failed study leaves behind
    keeps the folder until it ends.

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
                    holder = "another study, or by a run that one left behind"
                    raise OutputError(f"{logs} is in use by {holder}; wait for it or end it") from None
                time.sleep(POLL_S)
            except OSError as error:  # of some network folders
                raise OutputError(f"the study's folder {logs} cannot be locked: {error.strerror}") from error
        yield file


def execute(
    tasks: Sequence[Task], environments: Sequence[dict[str, str]], logs: Path, lock: BinaryIO, again: str
) -> int:
    """Runs every task that is due, and prints a line for each run that ends. On a terminal a line says what is running.

    In each of `environments` runs one task at a time; `lock` is that of `locked`, `again` the command that resumes the
    study. Returns how many of the runs failed.

    Raises UserError: Ctrl-C or SIGTERM; the runs have saved where they were.
    """
    due = [task for task in tasks if task.is_due]
    width = max((len(task.system.name) for task in due), default=0)
    waiting, free, running = list(due), list(reversed(environments)), list[Child]()
    received = list[int]()  # signals, of which `passed_on` have reached the runs
    passed_on = failures = 0
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with contextlib.ExitStack() as stack:
        for signum in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(signum, lambda number, frame: received.append(number))
            stack.callback(signal.signal, signum, before)
        status = stack.enter_context(console.status("", refresh_per_second=1))
        while running or (waiting and not received):
            while free and waiting and not received:
                running.append(Child(waiting.pop(0), logs, free.pop(), lock.fileno()))
            time.sleep(POLL_S)
            for number in received[passed_on:]:
                name = signal.Signals(number).name
                console.print(f"{name}: {len(running)} run(s) save and stop (once more: at once)")
                for child in running:
                    child.process.send_signal(number)  # nothing where it has ended
                passed_on += 1
            for child in [child for child in running if child.process.poll() is not None]:
                running.remove(child)
                free.append(child.environment)
                console.print(f"{child.task.system.name:<{width}}  seed {child.task.seed}  {_outcome(child, logs)}")
                console.file.flush()
                failures += child.process.returncode != 0 and not received
            if console.is_terminal:
                done = len(due) - len(waiting) - len(running)
                status.update(f"{done} of {len(due)} runs  {', '.join(child.progress() for child in running)}")
    if received:
        stopped = UserError(f"stopped; go on with: {again}")
        stopped.exit_code = 128 + received[0]
        raise stopped
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
