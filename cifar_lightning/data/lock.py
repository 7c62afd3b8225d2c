"""One process at a time in a data folder, and no trace of it afterwards."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cifar_lightning.errors import OutputError

LOCK_NAME = ".cifar10.lock"
OPEN_TRIES = 100


@contextmanager
def locked(root: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold `root`'s lock; make the folder where it is missing, and take it away again if it stays empty.

    The kernel releases the lock when its holder dies, so a file left by a killed process blocks nobody.
    Raises OutputError where the folder or the lock cannot be made.
    """
    path = root / LOCK_NAME
    was_missing = not root.exists()
    while True:
        with _open_lock(path) as file:
            _wait_for(file, path, report)
            if not is_still_at(file, path):
                continue  # the holder before us has removed the file that we waited for: others lock a new one
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()
                    if was_missing:
                        root.rmdir()  # fails, as it should, where the folder has become of use
            return


def _open_lock(path: Path) -> BinaryIO:
    for is_last in (*[False] * OPEN_TRIES, True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("ab")
        except OSError as error:
            # Another process may have taken the folder that it had made away between our two calls.
            if is_last or not isinstance(error, FileNotFoundError):
                fault = error.strerror or error
                raise OutputError(f"the data folder {path.parent} cannot be written: {fault}") from error
    raise AssertionError("the last try returns or raises")


def _wait_for(file: BinaryIO, path: Path, report: Callable[[str], None]) -> None:
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"CIFAR-10: another process is preparing {path.parent}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise OutputError(f"{path} cannot be locked: {error.strerror or error}") from error


def is_still_at(file: BinaryIO, path: Path) -> bool:
    """Whether `path` is the file that was opened, and not a newer one of that name or none."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
