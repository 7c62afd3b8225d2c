"""A command to run, the process that runs it, and the lock that it holds. Imports no torch: every worker loads this."""

import contextlib
import ctypes
import fcntl
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from cifar_lightning.errors import OutputError

PR_SET_PDEATHSIG = 1  # prctl(2)
POLL_S = 0.2
WAIT_FOR_LOCK_S = 60.0  # a run whose study was killed needs a moment to save and stop


@dataclass(frozen=True, eq=False)
class Job:
    """A command to run. Paths are relative to `folder`."""

    argv: list[str]
    log: Path  # where its output is appended; `<log without suffix>.lock` is held while it runs
    folder: Path = field(default_factory=Path.cwd)  # where it runs

    @property
    def lock(self) -> Path:
        """Held by the process while it runs, wherever that is."""
        return self.folder / self.log.with_suffix(".lock")


class Runner(Protocol):
    """Runs jobs as far as there is room for them, in the order in which they came."""

    running: dict[Job, str]  # what has started and not ended, with the name of its node; empty on this machine
    room: int  # jobs that run at a time

    def submit(self, job: Job) -> None:
        """Starts a job as soon as there is room for it."""

    def ended(self, timeout_s: float) -> list[tuple[Job, int | None]]:
        """Jobs that have ended since the last call, with their exit codes; waits for one, up to `timeout_s`.

        None in place of the exit code: it was lost with its worker, or has not started before `stop`.

        Raises OutputError: a job could not be started.
        """

    def stop(self, signum: int) -> None:
        """Starts nothing more, and tells what runs to stop; once more: at once."""

    def end(self, job: Job) -> None:
        """Tells one job to stop, as SIGTERM does; nothing where it has ended."""


@contextlib.contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Notes Ctrl-C and SIGTERM in a list, in place of what they do."""
    received = list[int]()
    with contextlib.ExitStack() as stack:
        for signum in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(signum, lambda number, frame: received.append(number))
            stack.callback(signal.signal, signum, before)
        yield received


def threads_of(cpus: int, processes: int) -> dict[str, str]:
    """The environment variables that give the processes of a run as many threads as there are CPUs for them."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(max(1, cpus // processes)))


def start(job: Job, environment: Mapping[str, str], inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Starts the process of a job, with these variables beside those of this process.

    It has a session of its own: Ctrl-C in the terminal reaches the study alone, which passes it on once. When the
    thread that has started it ends, Linux sends it SIGTERM, on which a run saves and stops. Elsewhere it goes on.
    Either way it holds the job's lock, and the `inherited` descriptors, until it ends.

    Raises OutputError: the log cannot be written, another process holds the lock, or there is no such command.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # looked up before the fork
    log_path = job.folder / job.log
    with locked(job.lock) as lock:
        try:
            with log_path.open("ab") as log:
                return subprocess.Popen(
                    job.argv,
                    cwd=job.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment},
                    start_new_session=True,
                    pass_fds=[lock.fileno(), *inherited],
                    preexec_fn=functools.partial(prctl, PR_SET_PDEATHSIG, signal.SIGTERM) if prctl else None,
                )
        except OSError as error:
            raise OutputError(f"cannot start a run with its log {log_path}: {error.strerror}") from error


@contextlib.contextmanager
def locked(path: Path, shared: bool = False, wait_s: float | None = None) -> Iterator[BinaryIO]:
    """Locks a file for this process and for those that inherit the lock; `shared` ones exclude only the others.

    `filelock` would unlock for all heirs when the first lets go. With flock, a run that a killed study leaves behind
    keeps the lock until it ends.

    Raises OutputError: it is still held after `wait_s` (by default `WAIT_FOR_LOCK_S`), or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise OutputError(f"the study's folder {path.parent} cannot be written: {error.strerror}") from error
    with file:
        deadline = time.monotonic() + (WAIT_FOR_LOCK_S if wait_s is None else wait_s)
        while True:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    what = str(path).removesuffix(".lock").rstrip("/")
                    holder = "another study, or by a run that one left behind"
                    raise OutputError(f"{what} is in use by {holder}; wait for it or end it") from None
                time.sleep(POLL_S)
            except OSError as error:  # of some network folders
                raise OutputError(f"{path.parent} cannot be locked: {error.strerror}") from error
        yield file


def is_free(lock: Path) -> bool:
    """Whether nobody holds a lock now. Raises nothing: one that cannot be opened is not free."""
    with contextlib.suppress(OutputError), locked(lock, wait_s=0):
        return True
    return False
