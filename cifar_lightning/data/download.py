"""The official files of CIFAR-10 and CIFAR-100: where they are looked for, whether they are whole, how they get there.

Imports no torch, so that the `data` verb answers at once. Reading the files is the data module's job.
"""

import os
import re
import shlex
import shutil
import sys
import tarfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pooch
from filelock import FileLock, Timeout

from cifar_lightning import __version__
from cifar_lightning.data.layouts import CIFAR10, MIRRORS, Layout
from cifar_lightning.errors import ConfigError, DataError, OutputError

ANSWER_S = 6.0  # for a first answer, all mirrors together
READ_TIMEOUT_S = 10.0  # without a byte
HEADERS = {"User-Agent": f"cifar_lightning/{__version__}"}  # Zenodo limits the rate of those without a name
LOCK_NAME = ".cifar10.lock"
STAGING_NAME = ".cifar10.tmp"
PRESENT = "already there"


class NowhereError(DataError):
    """Nothing of the data set is here, and no mirror gives it."""


@dataclass(frozen=True)
class Root:
    """The folder that holds `Layout.folder`; `given_by` is the flag or variable that named it, "" for none."""

    path: Path
    given_by: str = ""


def resolve_root(root: str | Path | None, layout: Layout = CIFAR10) -> Root:
    """The flag first, then `$CIFAR10_ROOT` (empty is unset), else `data/`. Raises ConfigError for an empty flag."""
    if root == "":
        raise ConfigError(f"--data.root is empty: give the folder that holds, or is to hold, {layout.folder}")
    if root is not None:
        return Root(Path(os.path.expanduser(root)), "--data.root")
    variable = os.environ.get(layout.root_variable)
    return Root(Path(os.path.expanduser(variable)), f"${layout.root_variable}") if variable else Root(Path("data"))


def mending_command(root: Path, layout: Layout = CIFAR10) -> str:
    """What to type so that the data set in `root` is fetched or repaired."""
    dataset = "" if layout.dataset == "cifar10" else f" --dataset {layout.dataset}"
    return f"python -m cifar_lightning data --root {shlex.quote(str(root))}{dataset}"


def verify(root: Path, layout: Layout = CIFAR10) -> None:
    """Check every file's MD5. Raises DataError naming the first bad file and the command that mends it."""
    if fault := _fault(root / layout.folder, layout, full_check=True):
        raise DataError(f"{fault}; mend it with: {mending_command(root, layout)}")


def prepare(root: Root, *, download: bool, layout: Layout = CIFAR10, full_check: bool = False) -> str:
    """Make sure that the data set lies in `root`; without a write, or a lock, where it does already.

    Returns what was done, such as "already there" or "repaired, downloaded from zenodo.org".

    download: whether anything may be written there: a fit may not write into a root that its user gave.
    full_check: compare MD5s even where all files exist, and replace the damaged ones.

    Raises DataError where the data set is not there and no source has it, OutputError where `root` cannot be written.
    """
    fault = _fault(root.path / layout.folder, layout, full_check)
    if not fault:
        return PRESENT
    if os.path.basename(os.path.abspath(root.path)) == layout.folder:
        raise DataError(f"{root.path} is the data set's inner folder: give --data.root its parent")
    fault += f" ({root.given_by} names the folder)" if root.given_by else ""
    if not download:
        fix = f"training never writes into a folder that you name: {mending_command(root.path, layout)} puts it there"
        raise DataError(f"{fault}, and {fix}. {layout.ways_out}")
    try:
        root.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root.path / LOCK_NAME)
        try:
            held = lock.acquire(blocking=False)
        except Timeout:
            _say(layout, f"another process is preparing {root.path}; waiting for it")
            held = lock.acquire()
        with held:
            if not _fault(root.path / layout.folder, layout, full_check):
                return PRESENT
            return _install(root.path, layout, fault)
    except OSError as error:
        raise OutputError(f"the data folder {root.path} cannot be written: {error.strerror or error}") from error


def _fault(folder: Path, layout: Layout, full_check: bool) -> str:
    """What is wrong with the files in `folder`, or "". MD5s are compared only for a `full_check`."""
    # os.path.isfile, since Path.is_file raises where a parent may not be read.
    missing = [name for name in layout.files if not os.path.isfile(folder / name)]
    if len(missing) == len(layout.files):
        return f"{layout.name} is not in {folder}"
    if missing:
        return f"{layout.name} in {folder} lacks {', '.join(missing)}"
    for name, md5 in layout.files.items() if full_check else ():
        if damage := _damage(folder / name, md5):
            return f"{folder / name} is {damage}"
    return ""


def _damage(path: Path, md5: str) -> str:
    try:
        found = pooch.file_hash(path, alg="md5")
    except OSError as error:
        return f"not readable ({error.strerror or error})"
    return "" if found == md5 else f"damaged (MD5 {found} instead of {md5})"


def _install(root: Path, layout: Layout, fault: str) -> str:
    """Fetch, check and unpack the archive. The caller holds the lock; `fault` is why it calls."""
    folder = root / layout.folder
    repaired = any(os.path.isfile(folder / name) for name in layout.files)
    # Inside the folder, which may be a link or a mount: from there a rename stays on one file system.
    staging = folder / STAGING_NAME
    shutil.rmtree(staging, ignore_errors=True)  # a killed process left it
    staging.mkdir(parents=True)
    try:
        archive, source = _fetch(root, layout, staging, fault)
        _unpack(archive, source, staging, layout)
        for name in layout.files:  # one by one: a good file of a half-extracted folder is never out of reach
            os.replace(staging / name, folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not os.listdir(folder):
            folder.rmdir()
    action = "downloaded" if archive.parent == staging else "unpacked"
    return f"{'repaired, ' if repaired else ''}{action} from {source}"


def _fetch(root: Path, layout: Layout, staging: Path, fault: str) -> tuple[Path, str]:
    """The archive and its source: the file beside the folder, then the variable's alone, else the known mirrors."""
    beside = root / layout.archive
    if os.path.isfile(beside):
        if not (damage := _damage(beside, layout.archive_md5)):
            return beside, str(beside)
        _say(layout, f"{beside} is {damage}; looking for another")
    own = os.path.expanduser(os.environ.get(layout.mirror_variable, "").strip())
    if own.endswith("/") or os.path.isdir(own):
        own = os.path.join(own, layout.archive)
    mirrors = (own,) if own else MIRRORS if layout.mirrors is None else layout.mirrors
    # All at once: a machine without a network waits ANSWER_S in all. The timeout of requests alone would not do: it
    # leaves name servers out, and begins again for each address of a host.
    problems = {url: f"no answer within {ANSWER_S:g} s" for url in mirrors if "://" in url}
    asking = {url: threading.Thread(target=_ask, args=(url, problems), daemon=True) for url in problems}
    for thread in asking.values():
        thread.start()
    deadline = time.monotonic() + ANSWER_S
    failure = ""
    for mirror in mirrors:
        archive = staging / layout.archive if mirror in asking else Path(mirror)
        # Of a URL the host alone: the rest may hold a password or a token.
        source = re.split("[/?#]", mirror.partition("://")[2])[0].rpartition("@")[2] or str(archive)
        _say(layout, f"{failure}; trying {source}" if failure else f"fetching it from {source}")
        problem = ""
        if mirror in asking:
            asking[mirror].join(max(0.0, deadline - time.monotonic()))
            problem = problems[mirror] or _download(mirror, archive)
        if not (problem := problem or _damage(archive, layout.archive_md5)):
            return archive, source
        failure = f"{source}: {problem}"
    is_nowhere = not any(os.path.isfile(root / layout.folder / name) for name in layout.files)
    raise (NowhereError if is_nowhere else DataError)(
        f"{fault}, and {'$' + layout.mirror_variable if own else 'every mirror'} failed: {failure}. {layout.ways_out}"
    )


def _ask(url: str, problems: dict[str, str]) -> None:
    """Ask a server for a sign of life. Its problem is then "" for any answer, else why there is none."""
    import requests  # slow to import, and needed only where something is missing

    try:
        requests.head(url, headers=HEADERS, timeout=ANSWER_S)
        problems[url] = ""
    except (requests.RequestException, ValueError) as error:
        problems[url] = _reason(error)


def _download(url: str, archive: Path) -> str:
    """Write what `url` serves to `archive`. Returns "", or why this mirror is to be left."""
    import requests

    timeout = (ANSWER_S, READ_TIMEOUT_S)
    try:
        pooch.HTTPDownloader(sys.stderr.isatty(), 1 << 16, headers=HEADERS, timeout=timeout)(url, str(archive), None)
    except (requests.RequestException, ValueError) as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    """Why a request failed, in one line and without its URL, which may hold a token."""
    if (response := getattr(error, "response", None)) is not None:
        return f"HTTP {response.status_code} {response.reason}"
    if isinstance(error, ValueError):
        return "neither a path nor a valid http:// or https:// address"
    cause: BaseException = error
    while cause.__context__ is not None:  # the text of requests itself is long, and names the URL
        cause = cause.__context__
    return " ".join(str(getattr(cause, "strerror", None) or cause or type(cause).__name__).split())


def _unpack(archive: Path, source: str, staging: Path, layout: Layout) -> None:
    """Write the archive's files, and no others, into `staging`. Raises DataError for another archive than expected.

    Nothing is unpickled here, and no name from the archive is used as a path: it is looked up among the expected ones.
    """
    refused = f"the archive from {source} is refused"
    expected = {f"{layout.folder}/{name}": name for name in layout.files}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.name in (layout.folder, f"{layout.folder}/{layout.by_catch}") and (
                member.isdir() or member.isreg()
            ):
                continue
            content = tar.extractfile(member) if member.isreg() and member.name in expected else None
            if content is None:
                raise DataError(f"{refused}: {member.name[:99]!a} is unexpected or there twice")
            with content, (staging / expected.pop(member.name)).open("xb") as file:
                shutil.copyfileobj(content, file)
    if fault := _fault(staging, layout, full_check=True):
        raise DataError(f"{refused}: {fault}")


def _say(layout: Layout, line: str) -> None:
    """On standard error, so that a verb's own output stays clean."""
    print(f"{layout.name}: {line}", file=sys.stderr, flush=True)
