"""The image files that `--images` names, decoded by several threads and handed over in their order."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path

from cifar_lightning.errors import ImageError
from cifar_lightning.inference import preprocess
from cifar_lightning.inference.preprocess import Pixels


@dataclass
class Found:
    """The images that were named, in the order given, each folder and pattern sorted."""

    files: list[Path] = field(default_factory=list)  # what is named twice is there twice
    problems: list[tuple[str, str]] = field(default_factory=list)  # what leads to no image: the name and the reason
    left_out: Counter[str] = field(default_factory=Counter)  # files in the folders that are no images, by their suffix


def find_images(names: Sequence[str]) -> Found:
    """Looks up what `--images` names.

    A name that exists is taken as it is, even with `*` or `[` in it; else it is a pattern (`**` crosses folders). Of a
    folder the files with an image's suffix count, those of its folders too; hidden ones do not.
    """
    found = Found()
    for name in names:
        matches = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))
        if not matches:
            reason = "matches no file" if glob.has_magic(name) else "does not exist"
            if "://" in name:
                reason = "is a URL, and nothing is fetched: download the file and give its path"
            elif name == "-":
                reason = "is not read from: give files or folders"
            found.problems.append((name, reason))
        for path in map(Path, matches):
            if not os.path.isdir(path):
                found.files.append(path)  # by its own name, whatever its suffix
                continue
            known = len(found.files) + len(found.problems)
            for file in _files_in(path, set(), found):
                if file.suffix.lower() in preprocess.suffixes():
                    found.files.append(file)
                else:
                    found.left_out[file.suffix.lower() or "without a suffix"] += 1
            if len(found.files) + len(found.problems) == known:
                found.problems.append((str(path), "holds no image"))
    return found


def _files_in(folder: Path, seen: set[tuple[int, int]], found: Found) -> Iterator[Path]:
    """Folders behind links count too, so not `Path.rglob`; it would also hide what cannot be read."""
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
        try:
            is_folder = entry.is_dir()
        except OSError as error:  # a link that leads to itself, or through a folder that cannot be entered
            found.problems.append((entry.path, f"cannot be read: {error.strerror}"))
            continue
        if is_folder:
            yield from _files_in(Path(entry.path), seen, found)
        else:
            yield Path(entry.path)


MAX_THREADS = 8  # each may hold a large image
CHUNK = 512  # files that are decoded ahead while as many are taken: 3 MB, enough to go on with while the net is busy


def read_all(files: Sequence[Path]) -> Iterator[Pixels | ImageError]:
    """Decodes files side by side, for Pillow decodes without holding Python's lock.

    Yields:
        For each file in order its pixels uint8 (32, 32, 3), or why there are none.
    """
    with ThreadPool(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        ahead = pool.imap(_read, files[:CHUNK])
        for first in range(CHUNK, len(files) + CHUNK, CHUNK):
            current, ahead = ahead, pool.imap(_read, files[first : first + CHUNK])
            yield from current


def _read(file: Path) -> Pixels | ImageError:
    try:
        return preprocess.decode(file)
    except ImageError as error:
        return error
