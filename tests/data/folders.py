"""What lies in a folder, and how to harm it."""

import hashlib
import os
from pathlib import Path

from data.official_format import TINY

from cifar_lightning.data.download import LOCK_NAME, verify
from cifar_lightning.data.layouts import FOLDER

ONE_OF = "data_batch_3"


def state_of(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every path under `folder` with its inode, time of change and content: equal only where nobody has written."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
            hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *folder.rglob("*")]
    }


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_whole(root: Path, *besides: str) -> None:
    """The data set, the lock's empty file, what is named, and nothing else: no archive, nothing unfinished."""
    verify(root, TINY.layout)
    assert names_in(root) == sorted([FOLDER, LOCK_NAME, *besides])
    assert names_in(root / FOLDER) == sorted(TINY.files)


def remove_one(folder: Path) -> None:
    (folder / ONE_OF).unlink()


def cut_one(folder: Path) -> None:
    os.truncate(folder / ONE_OF, 100)
