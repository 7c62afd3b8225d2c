"""Child: one `fit` in a process of its own, its output in a log file, its end read from its exit code."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cifar_lightning.errors import OutputError
from cifar_lightning.study.plan import Task
from cifar_lightning.study.slots import Slot

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
