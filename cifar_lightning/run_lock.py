"""A run's folder has one `fit` at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cifar_lightning.errors import OutputError

LOCK_NAME = ".lock"


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Holds a run's folder; leaves no trace. The kernel lets go of it when the process dies, however it dies.

    Raises:
        OutputError: another process holds it, or it cannot be locked.
    """
    path = folder / LOCK_NAME
    while True:
        try:
            file = path.open("a+b")
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"{folder} is in use by another fit (process {_holder(path)}); let it end or stop it first, or "
                    "train a run of its own without --ckpt"
                ) from None
            if not _is_still_at(file, path):
                continue  # its holder has just removed the file that we had opened
            file.truncate(0)
            file.write(str(os.getpid()).encode("ascii"))
            file.flush()
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()
            return


def _is_still_at(file: BinaryIO, path: Path) -> bool:
    """Whether `path` is the file that was opened, and not a newer one of that name or none."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace") or "?"
    return "?"
