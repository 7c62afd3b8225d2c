"""Small files that are whole or not there: written beside their place, then moved into it."""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_lightning.errors import OutputError

UNFINISHED = ".part"


def write_bytes(path: Path, content: bytes | memoryview, is_durable: bool = False) -> None:
    """Replaces `path` at once; whatever interrupts it but a kill leaves the old file and no other.

    The new content grows in the same folder, since a move from another device would be a copy over the old file.

    Args:
        path: the file.
        content: all of it.
        is_durable: wait until the disk has it, so that the file outlives a loss of power as well.

    Raises OutputError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if is_durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def sweep(folder: Path) -> None:
    """Removes what processes that were killed have left unfinished in `folder`; to be called by its only user."""
    for path in folder.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces `path` at once, in UTF-8; raises OutputError as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces `path` by `content`; numbers that JSON does not know (NaN, infinity) are a bug and raise ValueError."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, float]]) -> None:
    """Replaces `path` by a table: whole numbers without a point, others with all their digits, a gap left empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        table.writerow([_cell(row.get(name)) for name in columns])
    write_text(path, text.getvalue())


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _sync_folder(folder: Path) -> None:
    """The file's name is on the disk only when its folder is."""
    with contextlib.suppress(OSError):  # some network file systems cannot do it, and lose nothing but the guarantee
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
