"""One download against a server on 127.0.0.1 that drops, stalls, lies and redirects."""

import socket

import pytest
from data.fetching import CALM, HURRIED, SIZE, WRONG, Fetching
from data.official_format import TINY

from cifar_lightning.data import download, transfer
from cifar_lightning.data.transfer import SourceError

pytestmark = pytest.mark.usefixtures("offline")


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
    fetching(bad.url, good.url, patience=HURRIED if reason.startswith("stalled") else CALM)
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
    fetching(bad.url, good.url, patience=HURRIED)
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
            fetching(f"http://127.0.0.1:{port}/x", patience=HURRIED)
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
