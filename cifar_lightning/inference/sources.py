"""What `--images` names (files, folders, patterns) as one list of files, in the order given."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cifar_lightning.inference import picture


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
                if file.suffix.lower() in picture.suffixes():
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
