"""Runs what is due, several at once where the slots allow, and stops cleanly when told to."""

import contextlib
import fcntl
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from cifar_lightning.errors import OutputError, UserError
from cifar_lightning.study.board import Board
from cifar_lightning.study.child import Child
from cifar_lightning.study.plan import Task
from cifar_lightning.study.slots import Slot

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
