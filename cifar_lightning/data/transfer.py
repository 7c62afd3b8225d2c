"""One URL into one verified file: `.part`, resume, retry, stall, digest."""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from cifar_lightning import __version__
from cifar_lightning.data.layout import Layout, md5_of
from cifar_lightning.data.progress import Report, download_shown
from cifar_lightning.errors import OutputError

_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class Patience:
    """How long a source may keep us waiting."""

    connect_seconds: float = 10.0
    stall_seconds: float = 10.0
    # The origin was seen at 51-85 kB/s, an hour for the archive; the copies are far above this.
    least_bytes_per_second: float = 200_000.0
    retries: int = 3
    backoff_seconds: float = 0.5


PATIENCE = Patience()


class SourceError(Exception):
    """This source gives no archive; its text says why. What was received stays, for the next source to go on from."""


class DroppedError(SourceError):
    """The connection ended early: the same source may serve the rest."""


class WrongBytesError(SourceError):
    """Everything arrived and is not the archive. The bytes are gone already."""


def part_of(target: Path) -> Path:
    """Where the bytes of an unfinished download wait."""
    return target.with_name(target.name + ".part")


def transfer(url: str, target: Path, layout: Layout, *, patience: Patience = PATIENCE, report: Report) -> None:
    """Download `url`, check its MD5, and only then give it its name `target`.

    Raises SourceError where another source may do better, and OutputError where the disk is at fault.
    """
    part = part_of(target)
    has_older_bytes = _size(part) > 0
    try:
        _receive_and_check(url, part, layout, patience, report)
    except WrongBytesError:
        if not has_older_bytes:
            raise
        # The first bytes were another source's, or an older session's: this source is judged by its own alone.
        _receive_and_check(url, part, layout, patience, report)
    try:
        os.replace(part, target)
    except OSError as error:
        raise _disk_error(target, error) from error


def _receive_and_check(url: str, part: Path, layout: Layout, patience: Patience, report: Report) -> None:
    attempt = 0
    while _size(part) < layout.archive_bytes:
        try:
            _receive(url, part, layout, patience, report)
        except DroppedError as error:
            if attempt == patience.retries:
                raise
            attempt += 1
            report(f"CIFAR-10: {host_of(url)}: {error}; retry {attempt} of {patience.retries}")
            time.sleep(patience.backoff_seconds * 2 ** (attempt - 1))
    found_md5 = md5_of(part)
    if found_md5 != layout.archive_md5:
        part.unlink()
        raise WrongBytesError(f"served wrong bytes (MD5 {found_md5} instead of {layout.archive_md5})")


def _receive(url: str, part: Path, layout: Layout, patience: Patience, report: Report) -> None:
    """Append to `part` what it lacks, or write it anew where the server knows no ranges."""
    response, start_bytes = _request(url, _size(part), layout, patience)
    with response:
        try:
            file = part.open("ab" if start_bytes else "wb", buffering=0)
        except OSError as error:
            raise _disk_error(part, error) from error
        with file, download_shown(host_of(url), start_bytes, layout.archive_bytes, report) as advance:
            _copy(response, file, part, layout.archive_bytes - start_bytes, patience, advance)
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise _disk_error(part, error) from error


def _request(url: str, offset_bytes: int, layout: Layout, patience: Patience) -> tuple[http.client.HTTPResponse, int]:
    """Ask for the bytes from `offset_bytes` on; return the answer and where it really starts (the offset, or 0)."""
    response = _open(url, offset_bytes, patience)
    if response.status == 200:
        _check_size(response.headers.get("Content-Length"), layout, response)
        return response, 0
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if response.status == 206 and found and int(found[1]) == offset_bytes:
        _check_size(found[2], layout, response)
        return response, offset_bytes
    response.close()
    if offset_bytes:
        return _request(url, 0, layout, patience)
    raise SourceError(f"answers with HTTP {response.status} and no archive")


def _open(url: str, offset_bytes: int, patience: Patience) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"cifar_lightning/{__version__}"}
    if offset_bytes:
        headers["Range"] = f"bytes={offset_bytes}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        return cast(http.client.HTTPResponse, _OPENER.open(request, timeout=patience.connect_seconds))
    except urllib.error.HTTPError as error:
        error.close()
        phrase = http.client.responses.get(error.code, "")
        raise SourceError(f"HTTP {error.code} {phrase}".strip()) from error
    except urllib.error.URLError as error:
        cause = error.reason if isinstance(error.reason, OSError) else OSError(error.reason)
        raise _connection_error(cause, patience) from error
    except (OSError, http.client.HTTPException) as error:
        raise _connection_error(error, patience) from error


def _check_size(declared: str | None, layout: Layout, response: http.client.HTTPResponse) -> None:
    """Refuse another file (a log-in page, say) before it takes the place of good bytes."""
    if declared and declared.isdecimal() and int(declared) != layout.archive_bytes:
        response.close()
        raise SourceError(f"offers {int(declared):,} bytes instead of {layout.archive_bytes:,}")


def _copy(
    response: http.client.HTTPResponse,
    file: FileIO,
    path: Path,
    wanted_bytes: int,
    patience: Patience,
    advance: Callable[[int], None],
) -> None:
    """Never more than `wanted_bytes`, whatever the server sends; never slower than patience allows."""
    received_bytes = window_bytes = 0
    window_started_at = time.monotonic()
    while received_bytes < wanted_bytes:
        block = _read(response, min(_BLOCK_BYTES, wanted_bytes - received_bytes), patience)
        if not block:
            raise DroppedError(f"the connection closed {wanted_bytes - received_bytes:,} bytes before the end")
        _write(file, block, path)
        received_bytes += len(block)
        window_bytes += len(block)
        advance(len(block))
        window_seconds = time.monotonic() - window_started_at
        if window_seconds >= patience.stall_seconds and received_bytes < wanted_bytes:
            if window_bytes < patience.least_bytes_per_second * window_seconds:
                raise SourceError(f"stalled: {window_bytes / 1e3:.0f} kB in {window_seconds:.1f} s")
            window_started_at, window_bytes = time.monotonic(), 0


def _read(response: http.client.HTTPResponse, most_bytes: int, patience: Patience) -> bytes:
    try:
        return response.read1(most_bytes)
    except TimeoutError as error:
        raise SourceError(f"stalled: no bytes for {patience.connect_seconds:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise DroppedError(f"the connection broke ({type(error).__name__})") from error


def _write(file: FileIO, block: bytes, path: Path) -> None:
    """The whole block: an unbuffered file may take less at once, but no byte of it can fail later, at close."""
    rest = memoryview(block)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _disk_error(path, error) from error


def _connection_error(cause: Exception, patience: Patience) -> SourceError:
    if isinstance(cause, TimeoutError):
        return SourceError(f"no answer within {patience.connect_seconds:g} s")
    text = " ".join(str(getattr(cause, "strerror", None) or cause or type(cause).__name__).split())
    gone = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, http.client.IncompleteRead)
    return DroppedError(text) if isinstance(cause, gone) else SourceError(text)


def _disk_error(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror or error}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def host_of(url: str) -> str:
    """The host and port: what a message may show of a URL, whose rest may hold a password or a token."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _web_only() -> urllib.request.OpenerDirector:
    """An opener that cannot leave the web: a redirect to ftp:, file: or data: finds no handler."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


_OPENER = _web_only()
