"""Pictures decoded by several threads, handed over in their order."""

import glob
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cifar_lightning.errors import PictureError
from cifar_lightning.inference import preprocess
from cifar_lightning.inference.preprocess import Pixels, read_picture


@dataclass
class Found:
    """The pictures that were named.

    Args:
        files: in the order given, each folder and pattern sorted; what is named twice is there twice.
        problems: what was named and leads to no picture: the name and the reason.
        left_out: how many files in the folders have no picture's suffix.
    """

    files: list[Path] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0


def find_pictures(names: Sequence[str]) -> Found:
    """Looks up what `--images` names.

    A name that exists is taken as it is, even with `*` or `[` in it; else it is a pattern (`**` crosses folders). Of a
    folder the files with a picture's suffix count, those of its folders too; hidden ones do not.
    """
    found = Found()
    for name in names:
        path = Path(name)
        matches = (
            [path] if os.path.lexists(path) else [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        )
        if not matches:
            found.problems.append((name, "matches no file" if glob.has_magic(name) else "does not exist"))
        for match in matches:
            if not match.is_dir():
                found.files.append(match)  # by its own name, whatever its suffix
                continue
            before = len(found.files)
            for file in _files_in(match, set(), found):
                if file.suffix.lower() in preprocess.suffixes():
                    found.files.append(file)
                else:
                    found.left_out += 1
            if len(found.files) == before:
                found.problems.append((str(match), "holds no picture"))
    return found


def _files_in(folder: Path, seen: set[tuple[int, int]], found: Found) -> Iterator[Path]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        found.problems.append((str(folder), f"cannot be read: {error.strerror}"))
        return
    if (status.st_dev, status.st_ino) in seen:  # a link to a folder around it
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files_in(Path(entry.path), seen, found)
        else:
            yield Path(entry.path)


MAX_THREADS = 8  # each may hold a large picture
IN_FLIGHT = 1024  # decoded and not yet taken: 3 MB, and enough to go on with while the net is busy

Outcome = Pixels | PictureError


def read_all(files: Sequence[Path], threads: int | None = None) -> Iterator[Outcome]:
    """Decodes files side by side, for Pillow decodes without holding Python's lock.

    Args:
        files: what to read.
        threads: by default one for each processor, at most `MAX_THREADS`.

    Yields:
        For each file in order its pixels uint8 (32, 32, 3), or why there are none.
    """
    count = threads or min(os.cpu_count() or 1, MAX_THREADS)
    waiting: deque[Future[Outcome]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode")
    try:
        for file in files:
            waiting.append(pool.submit(_read, file))
            if len(waiting) >= IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for what is being decoded and no more


def _read(file: Path) -> Outcome:
    try:
        return read_picture(file)
    except PictureError as error:
        return error
