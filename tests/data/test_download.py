"""Where CIFAR-10 is looked for, how it gets there and how it is mended, on tiny files and servers on 127.0.0.1."""

import json
import socket
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from data.folders import ONE_OF, assert_whole, cut_one, names_in, remove_one, state_of
from data.loopback import Loopback
from data.official_format import TINY, Member, file_member, layout_of, reader_of, special_member, tar_gz, tiny_dataset
from data.processes import finish, run_python

from cifar_lightning.data import download, layouts
from cifar_lightning.data.download import LOCK_NAME, PRESENT, Root, prepare, verify
from cifar_lightning.data.layouts import ARCHIVE, CIFAR10, FOLDER
from cifar_lightning.errors import ConfigError, DataError, OutputError

pytestmark = pytest.mark.usefixtures("offline")

Serve = Callable[..., Loopback]
OTHER = tiny_dataset(seed=1).archive


def fetched(root: Path, *mirrors: str, full_check: bool = False) -> str:
    """`prepare` with these known mirrors."""
    download.MIRRORS = mirrors  # which the fixture `offline` puts back
    return prepare(Root(root), download=True, layout=TINY.layout, full_check=full_check)


def refused(root: Path, *mirrors: str) -> str:
    """What it says in one line where none of them has the archive."""
    with pytest.raises(DataError) as caught:
        fetched(root, *mirrors)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_official_list_is_torchvisions() -> None:
    from torchvision.datasets import CIFAR10 as theirs  # noqa: N811 - beside ours, which has its name

    assert dict(theirs.train_list + theirs.test_list) | {"batches.meta": theirs.meta["md5"]} == CIFAR10.files
    assert (FOLDER, ARCHIVE, CIFAR10.archive_md5) == (theirs.base_folder, theirs.filename, theirs.tgz_md5)


def test_no_torch_and_nothing_slow_is_imported() -> None:
    script = "import sys, cifar_lightning.data.command as _; print([m for m in sys.modules if m in sys.argv[1:]])"
    assert finish(run_python(script, "torch", "torchvision", "lightning", "numpy", "rich", "requests")) == "[]\n"


@pytest.mark.parametrize(
    ("flag", "variable", "expected"),
    [
        (None, "", Root(Path("data"), "")),
        (None, "/v", Root(Path("/v"), "$CIFAR10_ROOT")),
        (Path("data"), "/v", Root(Path("data"), "--data.root")),
        ("~/f", "", Root(Path.home() / "f", "--data.root")),
    ],
)
def test_resolve_root(monkeypatch: pytest.MonkeyPatch, flag: str | Path | None, variable: str, expected: Root) -> None:
    monkeypatch.setenv(layouts.CIFAR10.root_variable, variable)
    assert download.resolve_root(flag) == expected
    with pytest.raises(ConfigError, match=r"--data\.root is empty"):
        download.resolve_root("")


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: path.unlink(), f"CIFAR-10 in {{folder}} lacks {ONE_OF}; "),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), f"{{folder}}/{ONE_OF} is damaged (MD5 "),
    ],
    ids=["missing", "flipped"],
)
def test_verify_names_the_file_and_the_command(root: Path, harm: Callable[[Path], object], problem: str) -> None:
    verify(TINY.write_folder(root), TINY.layout)
    harm(root / FOLDER / ONE_OF)
    with pytest.raises(DataError) as caught:
        verify(root, TINY.layout)
    assert str(caught.value).startswith(problem.format(folder=root / FOLDER))
    assert str(caught.value).endswith(f"; mend it with: python -m cifar_lightning data --root '{root}'")


def test_a_download_leaves_the_data_set_and_nothing_else(root: Path, serve: Serve) -> None:
    server = serve()
    assert fetched(root, server.url) == f"downloaded from {server.host}"
    assert_whole(root)
    assert len(reader_of(TINY.layout)(root, train=True).targets) == TINY.layout.train_images
    assert fetched(root, server.url) == PRESENT
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"body": OTHER}, "damaged (MD5 "),
        ({"body": b"<html>log in</html>"}, "damaged (MD5 "),
        ({"status": 404}, "HTTP 404 Not Found"),
        ({"status": 503}, "HTTP 503 Service Unavailable"),
        ({"redirect_to": "file:///etc/passwd"}, "neither a path nor a valid http"),
        ({"redirect_to": "ftp://127.0.0.1/x"}, "neither a path nor a valid http"),
        ({"drop_after_bytes": 30_000}, "IncompleteRead(30000 bytes read"),
        ({"hang_after_bytes": 30_000}, "timed out"),
        ({"hang_after_bytes": 0}, "timed out"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_mirror_is_told_once_and_left_for_the_next(
    root: Path, serve: Serve, behaviour: dict[str, object], reason: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT_S", 0.4)
    bad, good = serve(**behaviour), serve()
    assert fetched(root, bad.url, good.url) == f"downloaded from {good.host}"
    assert_whole(root)
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"CIFAR-10: fetching it from {bad.host}"
    assert second.startswith(f"CIFAR-10: {bad.host}: {reason}")
    assert second.endswith(f"; trying {good.host}")
    # Alone it is the end, and nothing stays: what was served is thrown away unread.
    text = refused(root.parent / "again", bad.url)
    assert f"{bad.host}: {reason}" in text
    assert reason not in capsys.readouterr().err
    assert names_in(root.parent / "again") == [LOCK_NAME]
    for part in (f"CIFAR-10 is not in {root.parent / 'again' / FOLDER}, and every mirror failed: ",
                 "CIFAR10_MIRROR=", "--data.root or $CIFAR10_ROOT", "--data.source sample"):  # fmt: skip
        assert part in text


def test_without_a_network_all_mirrors_together_cost_one_wait(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name servers and a host that swallow everything; one that answers is found beside them."""
    monkeypatch.setattr(download, "ANSWER_S", 1.0)
    done, resolve = threading.Event(), socket.getaddrinfo

    def black_hole(host: str, *arguments: object, **settings: object) -> object:
        if host.endswith(".invalid"):
            done.wait(20)
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return resolve(host, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", black_hole)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = ["http://a.invalid/x", f"http://127.0.0.1:{silent.getsockname()[1]}/x", "http://b.invalid/x"]
        started_at = time.monotonic()
        text = refused(root, *dead)
        assert time.monotonic() - started_at < 2.5, "one wait for each would be 3 s"
        assert "b.invalid: no answer within 1 s" in text
        assert fetched(root, *dead, (good := serve()).url) == f"downloaded from {good.host}"
    done.set()


@pytest.mark.parametrize("kind", ["url", "url of a folder", "folder", "file"])
def test_the_mirror_variable_is_asked_alone(
    root: Path, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    server, unasked = serve(), serve()
    usb = TINY.write_archive(tmp_path / "usb stick")
    before = state_of(usb.parent)
    folder_url = f"http://{server.host}/mirror/"
    mirror = {"url": server.url, "url of a folder": folder_url, "folder": usb.parent, "file": usb}[kind]
    monkeypatch.setenv(layouts.CIFAR10.mirror_variable, f" {mirror} ")
    expected = f"downloaded from {server.host}" if "url" in kind else f"unpacked from {usb}"
    assert fetched(root, unasked.url) == expected
    assert server.requests == {"url": [f"/{ARCHIVE}"], "url of a folder": [f"/mirror/{ARCHIVE}"]}.get(kind, [])
    assert_whole(root)
    assert state_of(usb.parent) == before
    assert not unasked.requests


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("{folder}", f"{{folder}}/{ARCHIVE}: not readable (No such file or directory)"),
        ("{folder}/other", "{folder}/other: damaged (MD5 "),
        ("ftp://user:secret@example.org/secret", "example.org: neither a path nor a valid http:// or https:// address"),
        ("http://127.0.0.1:port/secret", "127.0.0.1:port: neither a path nor"),
        ("https://user:secret@127.0.0.1:1/x?token=secret", "127.0.0.1:1: Connection refused"),
    ],
)
def test_the_mirror_variable_says_why_it_failed_and_no_secret(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str, reason: str
) -> None:
    (tmp_path / "other").write_bytes(OTHER)
    monkeypatch.setenv(layouts.CIFAR10.mirror_variable, mirror.format(folder=tmp_path))
    text = refused(root)
    assert f"and $CIFAR10_MIRROR failed: {reason.format(folder=tmp_path)}" in text
    assert "secret" not in text


def test_a_bar_only_on_a_terminal(root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetched(root, serve().url)
    assert "100%" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"the data folder {tmp_path}/file/data cannot be written: Not a directory"):
        fetched(tmp_path / "file" / "data")


PREPARE = """
import json, resource, sys
from pathlib import Path
from cifar_lightning.data import download, layouts
from cifar_lightning.data.download import Root
from cifar_lightning.data.layouts import Layout
from cifar_lightning.errors import UserError
root, most_bytes, *download.MIRRORS = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), int(most_bytes)))
try:
    prepared = download.prepare(Root(Path(root)), download=True, layout=LAYOUT)
    print(json.dumps([prepared, (Path(root) / layouts.FOLDER / "batches.meta").exists()]))
except UserError as error:
    print(type(error).__name__, error)
""".replace("LAYOUT", repr(TINY.layout))
UNLIMITED = str(2**40)


@pytest.mark.parametrize("most_bytes", [5_000, 40_000], ids=["while unpacking", "while downloading"])
def test_a_full_disk_is_not_the_mirrors_fault_and_leaves_nothing(
    root: Path, tmp_path: Path, serve: Serve, most_bytes: int
) -> None:
    """A limit on the size of files stands for a full disk: it needs no mount."""
    first = str(TINY.write_archive(tmp_path / "usb")) if most_bytes == 5_000 else serve().url
    second = serve()
    output = finish(run_python(PREPARE, str(root), str(most_bytes), first, second.url))
    assert output == f"OutputError the data folder {root} cannot be written: File too large\n"
    assert not second.requests
    assert names_in(root) == [LOCK_NAME]


def test_four_processes_at_once_make_one_download(root: Path, serve: Serve) -> None:
    server = serve(delay_s=1)
    processes = [run_python(PREPARE, str(root), UNLIMITED, server.url) for _ in range(4)]
    results, errors = zip(*(process.communicate(timeout=20) for process in processes), strict=True)
    expected = [[f"downloaded from {server.host}", True]] + 3 * [["already there", True]]
    assert sorted(json.loads(result) for result in results) == sorted(expected)
    assert f"CIFAR-10: another process is preparing {root}; waiting for it\n" in errors
    assert len(server.requests) == 1
    assert_whole(root)


def test_the_inner_folder_is_not_a_root(root: Path) -> None:
    before = state_of(TINY.write_folder(root))
    assert "is the data set's inner folder: give --data.root its parent" in refused(root / FOLDER)
    assert state_of(root) == before


WATCHED = """
import os, sys
from pathlib import Path
from cifar_lightning.data.download import Root, prepare
from cifar_lightning.data.layouts import Layout
writes = []
def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(sys.argv[1]):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            writes.append(event)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.chmod", "fcntl.flock"):
        writes.append(event)
sys.addaudithook(watch)
prepare(Root(Path(sys.argv[1])), download=True, layout=LAYOUT, full_check=bool(sys.argv[2]))
print(len(writes))
""".replace("LAYOUT", repr(TINY.layout))


@pytest.mark.parametrize("full_check", ["", "yes"])
def test_valid_files_are_read_without_a_write_or_a_lock(root: Path, full_check: str) -> None:
    # Root passes over permissions, so a read-only folder would prove nothing: the interpreter itself tells on us.
    TINY.write_archive(TINY.write_folder(root))
    before = state_of(root)
    assert finish(run_python(WATCHED, str(root), full_check)) == "0\n"
    assert state_of(root) == before
    remove_one(root / FOLDER)
    assert int(finish(run_python(WATCHED, str(root), full_check))) > 7, "the watch sees writes"


def leave_staging(folder: Path) -> None:
    remove_one(folder)
    (folder / download.STAGING_NAME).mkdir()
    (folder / download.STAGING_NAME / "data_batch_1").write_bytes(b"half")


@pytest.mark.parametrize(
    ("harm", "full_check"), [(remove_one, False), (remove_one, True), (cut_one, True), (leave_staging, False)]
)
def test_repair_from_the_archive_beside_needs_no_network(
    root: Path, harm: Callable[[Path], None], full_check: bool
) -> None:
    beside = TINY.write_archive(TINY.write_folder(root))
    harm(root / FOLDER)
    assert fetched(root, full_check=full_check) == f"repaired, unpacked from {beside}"
    assert_whole(root, ARCHIVE)


def test_repair_by_download_keeps_what_else_lies_there(root: Path, serve: Serve, capsys) -> None:
    TINY.write_folder(root)
    (root / FOLDER / "readme.html").write_text("mine")
    replace(TINY, archive=TINY.archive[:-10]).write_archive(root)
    cut_one(root / FOLDER)
    server = serve()
    assert fetched(root, server.url) == PRESENT
    assert fetched(root, server.url, full_check=True) == f"repaired, downloaded from {server.host}"
    assert capsys.readouterr().err.startswith(f"CIFAR-10: {root / ARCHIVE} is damaged (MD5 ")
    verify(root, TINY.layout)
    assert (root / FOLDER / "readme.html").read_text() == "mine"
    assert names_in(root) == [LOCK_NAME, FOLDER, ARCHIVE]


def members(**changed: bytes) -> list[Member]:
    return [file_member(f"{FOLDER}/{name}", changed.get(name, content)) for name, content in TINY.files.items()]


INSIDE = f"{FOLDER}/data_batch_1"
UNEXPECTED = {
    "traversal": file_member("../escaped", b"!"),
    "traversal within": file_member(f"{FOLDER}/../../escaped", b"!"),
    "absolute": file_member("/tmp/escaped", b"!"),
    "symlink": special_member(INSIDE, tarfile.SYMTYPE, "/etc/passwd"),
    "symlinked folder": special_member(FOLDER, tarfile.SYMTYPE, ".."),
    "hard link": special_member(INSIDE, tarfile.LNKTYPE, "../x"),
    "device": special_member(INSIDE, tarfile.CHRTYPE),
    "extra file": file_member(f"{FOLDER}/run.sh", b"!"),
    "extra folder": special_member(f"{FOLDER}/more", tarfile.DIRTYPE),
    "twice": members()[0],
    "newline": file_member("a\nb", b"!"),
}
CRAFTED = {
    **{kind: ([member, *members()], f"{member[0].name!a} is unexpected") for kind, member in UNEXPECTED.items()},
    "damaged member": (members(data_batch_1=b"?"), "data_batch_1 is damaged (MD5 "),
    "missing member": (members()[1:], "lacks data_batch_1"),
    "empty": ([], "CIFAR-10 is not in "),
}


@pytest.mark.parametrize(("content", "problem"), CRAFTED.values(), ids=CRAFTED)
def test_a_crafted_archive_is_refused_whole(root: Path, content: list[Member], problem: str) -> None:
    crafted = tar_gz(content)
    remove_one(TINY.write_folder(root) / FOLDER)
    beside = replace(TINY, archive=crafted).write_archive(root)
    (root / LOCK_NAME).touch()
    before = state_of(root.parent)
    with pytest.raises(DataError) as caught:
        prepare(Root(root), download=True, layout=layout_of(TINY.files, crafted))
    assert str(caught.value).startswith(f"the archive from {beside} is refused: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    after = state_of(root.parent)
    assert {name: state[2] for name, state in after.items()} == {name: state[2] for name, state in before.items()}
    assert not Path("/tmp/escaped").exists()
