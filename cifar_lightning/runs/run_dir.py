"""Run folders: `lightning_logs/<recipe>/<time>-s<seed>/`, made for one run alone, and found again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cifar_lightning.errors import CheckpointError, OutputError
from cifar_lightning.runs.checkpoint import PRETRAINED
from cifar_lightning.runs.record import RECORD, read_record

LOCK_NAME = ".lock"


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Holds a run's folder, until the process dies at the latest. Raises OutputError where another process holds it."""
    path, holder = folder / LOCK_NAME, folder / f"{LOCK_NAME}.pid"
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
        holder.write_text(str(os.getpid()))
    except Timeout:
        process = "?"
        with suppress(OSError):
            process = holder.read_text()
        raise OutputError(
            f"{folder} is in use by another fit (process {process}); let it end or stop it first, or train a run of "
            "its own without --ckpt"
        ) from None
    except OSError as error:
        fix = "name another place with --trainer.default_root_dir"
        raise OutputError(f"{path} cannot be written or locked: {error.strerror}; {fix}") from error
    try:
        yield
    finally:
        # Removed while the lock is held: a process that has opened the old file sees that it is gone.
        for file in (holder, path):
            with suppress(OSError):
                file.unlink()
        lock.release()


CHECKPOINTS = "checkpoints"


def create(logs: Path, recipe: str, seed: int, now: datetime) -> Path:
    """Makes a new run's folder; those of the same second get `-2`, `-3` and so on. Raises OutputError if it cannot."""
    name = f"{now:%Y-%m-%d_%H-%M-%S}-s{seed}"
    number = 1
    while True:
        folder = logs / recipe / (name if number == 1 else f"{name}-{number}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()  # fails where it exists: two processes never share one
            return folder
        except FileExistsError:
            if not folder.is_dir():
                raise OutputError(f"cannot make the run's folder {folder}: a file is in the way") from None
            number += 1
        except OSError as error:
            raise OutputError(
                f"cannot make the run's folder {folder}: {error.strerror}; name another place with "
                "--trainer.default_root_dir"
            ) from error


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint belongs to; None for a file that lies on its own."""
    folder = checkpoint.resolve().parent
    is_run = folder.name == CHECKPOINTS and (folder.parent / RECORD).is_file()
    return Path(os.path.relpath(folder.parent)) if is_run else None


def newest_run(logs: Path) -> Path | None:
    """The folder of the run that started last of those with a checkpoint; None where there is none."""
    runs = []
    for record_path in logs.glob(f"*/*/{RECORD}"):
        folder = record_path.parent
        if any((folder / CHECKPOINTS).glob("*.ckpt")) and (record := read_record(folder)).started_at:
            runs.append((datetime.fromisoformat(record.started_at), folder))
    return max(runs)[1] if runs else None


def find_checkpoint(which: str, logs: Path) -> Path:
    """Resolves `--ckpt`.

    Args:
        which: a path, 'pretrained', or 'best' or 'last' of the newest run that has a checkpoint (by its start).
        logs: where the runs are.

    Raises CheckpointError: there is none; the text says what there is.
    """
    if which == "pretrained":
        return PRETRAINED
    if which not in ("best", "last"):
        if "://" in which:
            raise CheckpointError(f"--ckpt {which}: a URL is never loaded; download the file and give its path")
        path = Path(which)
        if path.is_dir():
            raise CheckpointError(f"--ckpt {which} is a folder{_inside(path)}; give a .ckpt file")
        if not path.is_file():
            raise CheckpointError(f"--ckpt {which}: no such file; give a path, best, last or pretrained")
        return path
    newest = newest_run(logs)
    if newest is None:
        raise CheckpointError(
            f"no run with a checkpoint in {logs}; train one with: python -m cifar_lightning fit; or --ckpt pretrained"
        )
    checkpoint = newest / CHECKPOINTS / f"{which}.ckpt"
    if not checkpoint.is_file():
        raise CheckpointError(
            f"the newest run, {newest}, has no {which} checkpoint{_inside(newest)} "
            "(best is written after an epoch with validation); try --ckpt last or a path"
        )
    return checkpoint


def _inside(folder: Path) -> str:
    found = sorted(str(path) for path in folder.glob("**/*.ckpt"))
    return f", but it has {', '.join(found)}" if found else " without checkpoints"
