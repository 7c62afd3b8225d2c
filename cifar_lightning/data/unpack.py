"""The verified archive onto the disk: expected regular files only, all of them or none.

Nothing is unpickled here, and no name from the archive is ever used as a path: it is looked up among the expected ones.
"""

import gzip
import os
import shutil
import tarfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cifar_lightning.data.layout import Layout, md5_of_stream, new_md5
from cifar_lightning.errors import DataError, OutputError

STAGING_NAME = ".cifar10.unpack"
_BLOCK_BYTES = 1 << 20


def unpack(archive: Path, root: Path, layout: Layout) -> None:
    """Put the archive's files into `root/<folder>`, the files that stand there replaced one by one, each at once.

    The caller holds the lock: what a killed process left in the staging folder is removed. Raises DataError for an
    archive that is not the expected one, inside or outside, and OutputError for a disk that does not take the files.
    """
    folder = root / layout.folder
    # Inside an existing folder, which may be a link or a mount: only there is a rename sure to stay on one file system.
    staging = (folder if folder.is_dir() else root) / STAGING_NAME
    for stale in (root / STAGING_NAME, folder / STAGING_NAME):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        # One handle for digest and reading, so that the file cannot be exchanged in between.
        with archive.open("rb") as stream:
            found_md5 = md5_of_stream(stream)
            if found_md5 != layout.archive_md5:
                raise DataError(f"{archive} is damaged (MD5 {found_md5} instead of {layout.archive_md5})")
            stream.seek(0)
            staging.mkdir()
            _extract(archive, stream, staging, layout)
        _put_in_place(staging, folder)
    except OSError as error:
        raise OutputError(f"{archive} cannot be unpacked into {root}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(archive: Path, stream: BinaryIO, staging: Path, layout: Layout) -> None:
    expected = {f"{layout.folder}/{name}": (name, md5) for name, md5 in layout.files.items()}
    ignored = {f"{layout.folder}/{name}" for name in layout.ignored}
    try:
        with tarfile.open(fileobj=stream, mode="r:gz") as tar:
            for member in tar:
                if member.isdir() and member.name == layout.folder:
                    continue
                if not member.isreg() or member.name not in expected.keys() | ignored:
                    raise DataError(f"{archive} is refused: it holds {_description(member)}")
                if member.name in expected:
                    name, md5 = expected.pop(member.name)
                    _write_member(archive, tar, member, staging / name, md5)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error
    if expected:
        raise DataError(f"{archive} lacks {', '.join(sorted(expected))}")


def _write_member(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, md5: str) -> None:
    digest = new_md5()
    source = tar.extractfile(member)
    if source is None:
        raise DataError(f"{archive} is refused: it holds {_description(member)}")
    with source, target.open("xb") as file:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != md5:
        raise DataError(f"{archive}: {member.name} is damaged (MD5 {digest.hexdigest()} instead of {md5})")


def _put_in_place(staging: Path, folder: Path) -> None:
    if staging.parent == folder:
        # File by file: the good files of a half-extracted folder, and what else lies there, are never out of reach.
        for file in sorted(staging.iterdir()):
            os.replace(file, folder / file.name)
        _sync_folder(folder)
    else:
        _sync_folder(staging)
        os.rename(staging, folder)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some network file systems cannot do it, and lose nothing but the guarantee
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _description(member: tarfile.TarInfo) -> str:
    """Why a member is refused, with its name made safe to print."""
    name = ascii(member.name if len(member.name) <= 100 else member.name[:100] + "...")
    if member.issym() or member.islnk():
        return f"a link, {name}"
    if member.name.startswith("/"):
        return f"an absolute path, {name}"
    if ".." in member.name.split("/"):
        return f"a path that leads outside, {name}"
    if member.isreg() or member.isdir():
        return f"{name}, which is not part of the data set or is there twice"
    return f"a device or another special file, {name}"
