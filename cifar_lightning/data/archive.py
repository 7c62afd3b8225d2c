"""The official CIFAR-10 files: where they are looked for, whether they are whole, and how they get there.

Imports no torch, so that the `data` verb answers at once. Reading the files is the data module's affair.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cifar_lightning.data.download import MIRROR_VARIABLE, MIRRORS, chosen_mirrors, fetch
from cifar_lightning.data.layout import CIFAR10, Layout, md5_of
from cifar_lightning.data.lock import locked
from cifar_lightning.data.progress import Report, say
from cifar_lightning.data.transfer import PATIENCE, Patience, SourceError
from cifar_lightning.data.unpack import unpack
from cifar_lightning.errors import ConfigError, DataError

__all__ = [
    "CIFAR10",
    "DEFAULT_ROOT",
    "MIRROR_VARIABLE",
    "ROOT_VARIABLE",
    "Layout",
    "Prepared",
    "Root",
    "prepare",
    "resolve_root",
    "verify",
]

ROOT_VARIABLE = "CIFAR10_ROOT"
DEFAULT_ROOT = Path("data")


@dataclass(frozen=True)
class Root:
    """The folder that holds `cifar-10-batches-py`; `given_by` is the flag or variable that named it, "" for none."""

    path: Path
    given_by: str


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did. `source` is a host or a file, "" where nothing had to be done."""

    root: Path
    action: Literal["present", "unpacked", "downloaded"]
    source: str = ""
    # Some files were there and incomplete or damaged.
    repaired: bool = False


def resolve_root(root: str | Path | None) -> Root:
    """The flag first, then `$CIFAR10_ROOT` (empty is unset), else `data/`. Raises ConfigError for an empty flag."""
    if root is not None:
        if not str(root):
            raise ConfigError("--data.root is empty: give the folder that holds, or is to hold, cifar-10-batches-py")
        return Root(_expanded(root), "--data.root")
    if variable := os.environ.get(ROOT_VARIABLE):
        return Root(_expanded(variable), f"${ROOT_VARIABLE}")
    return Root(DEFAULT_ROOT, "")


def verify(root: Path, layout: Layout = CIFAR10) -> None:
    """Check every file's MD5. Raises DataError naming the first bad file and the command that mends it."""
    bad = _missing(root, layout)
    if bad:
        problem = f"{root / layout.folder / bad[0]} is missing"
    else:
        problem = next((text for text in (_damage(root, layout, name) for name in layout.files) if text), "")
    if problem:
        raise DataError(f"{problem}; mend it with: {mending_command(root)}")


def prepare(
    root: Path,
    *,
    download: bool,
    layout: Layout = CIFAR10,
    mirrors: Sequence[str] | None = None,
    full_check: bool = False,
    given_by: str = "",
    patience: Patience = PATIENCE,
    report: Report = say,
) -> Prepared:
    """Make sure that the data set lies in `root`; without a write, or a lock, where it does already.

    download: whether anything may be written there: a fit may not write into a root that its user gave.
    mirrors: the sources to try, by default `$CIFAR10_MIRROR` alone or the known mirrors.
    full_check: compare MD5s even where all files exist, and replace the damaged ones.
    given_by: the flag or variable that named `root`, for the messages.

    Raises DataError where the data set is not there and no source has it, OutputError where `root` cannot be written.
    """
    if not _unusable(root, layout, full_check):
        return Prepared(root, "present")
    if Path(os.path.abspath(root)).name == layout.folder:
        parent = Path(os.path.abspath(root)).parent
        raise DataError(
            f"{root} is the data set's inner folder: give its parent instead, --data.root {_quoted(parent)}"
        )
    if not download:
        raise DataError(_not_found(root, layout, given_by))
    with locked(root, report):
        if not _unusable(root, layout, full_check):
            return Prepared(root, "present")
        return _install(root, layout, mirrors, given_by, patience, report)


def mending_command(root: Path) -> str:
    """What to type so that the data set in `root` is fetched or repaired."""
    return f"python -m cifar_lightning data --root {_quoted(root)}"


def _install(
    root: Path, layout: Layout, mirrors: Sequence[str] | None, given_by: str, patience: Patience, report: Report
) -> Prepared:
    repaired = len(_missing(root, layout)) < len(layout.files)
    archive = root / layout.archive_name
    archive_was_there = archive.is_file()
    if archive_was_there:
        found_md5 = md5_of(archive)
        if found_md5 == layout.archive_md5:
            report(f"CIFAR-10: unpacking {archive}")
            unpack(archive, root, layout)
            return Prepared(root, "unpacked", str(archive), repaired)
        report(f"CIFAR-10: {archive} is damaged (MD5 {found_md5}); looking for another")
    chosen = chosen_mirrors() if mirrors is None else mirrors
    try:
        fetched = fetch(archive, layout, chosen, patience=patience, report=report)
    except SourceError as error:
        own = mirrors is None and chosen != MIRRORS
        asked = f"${MIRROR_VARIABLE} does not have it" if own else "no source has it"
        raise DataError(f"{_sought(root, layout, given_by)} and {asked}: {error}. {_ways_out()}") from error
    report(f"CIFAR-10: unpacking {fetched.path}")
    unpack(fetched.path, root, layout)
    if fetched.is_temporary and not archive_was_there:
        fetched.path.unlink()
    return Prepared(root, "downloaded" if fetched.is_temporary else "unpacked", fetched.source, repaired)


def _unusable(root: Path, layout: Layout, full_check: bool) -> bool:
    return bool(_missing(root, layout)) or (full_check and any(_damage(root, layout, name) for name in layout.files))


def _missing(root: Path, layout: Layout) -> list[str]:
    # os.path.isfile, since Path.is_file raises where a parent may not be read.
    return [name for name in layout.files if not os.path.isfile(root / layout.folder / name)]


def _damage(root: Path, layout: Layout, name: str) -> str:
    path, md5 = root / layout.folder / name, layout.files[name]
    found_md5 = md5_of(path)
    return "" if found_md5 == md5 else f"{path} is damaged (MD5 {found_md5} instead of {md5})"


def _sought(root: Path, layout: Layout, given_by: str) -> str:
    missing, place = _missing(root, layout), root / layout.folder
    named = f" (named by {given_by})" if given_by else ""
    if not missing:
        return f"CIFAR-10 in {place}{named} is damaged"
    if len(missing) == len(layout.files):
        return f"CIFAR-10 is not in {place}{named}"
    return f"CIFAR-10 in {place}{named} lacks {', '.join(missing)}"


def _not_found(root: Path, layout: Layout, given_by: str) -> str:
    archive = root / layout.archive_name
    seen = f", though {archive.name} lies beside it" if os.path.isfile(archive) else ""
    return (
        f"{_sought(root, layout, given_by)}{seen}, and training never writes into a folder that you name: "
        f"{mending_command(root)} puts it there. {_ways_out()}"
    )


def _ways_out() -> str:
    return (
        f"Ways out: {MIRROR_VARIABLE}=<url or folder of the archive>; --data.root or ${ROOT_VARIABLE} naming a folder "
        "that holds cifar-10-batches-py; --config configs/offline.yaml, the synthetic stand-in"
    )


def _expanded(path: str | Path) -> Path:
    return Path(os.path.expanduser(path))


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
