"""Finding, verifying, locking and unpacking the official files, and the `data` verb, on tiny files."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from data.loopback import Loopback
from data.official_format import (
    ARCHIVE,
    FOLDER,
    Member,
    directory_member,
    file_member,
    layout_of,
    special_member,
    tar_gz,
    tiny_dataset,
)

from cifar_lightning.data import archive, lock
from cifar_lightning.data.archive import (
    CIFAR10,
    MIRROR_VARIABLE,
    ROOT_VARIABLE,
    Layout,
    Prepared,
    Root,
    is_present,
    prepare,
    resolve_root,
    verify,
)
from cifar_lightning.data.command import main
from cifar_lightning.data.unpack import STAGING_NAME, unpack
from cifar_lightning.errors import ConfigError, DataError, OutputError

TINY = tiny_dataset()
REPOSITORY = Path(__file__).parents[2]
REAL_ROOT = os.environ.get(ROOT_VARIABLE, "")
ONE_OF = "data_batch_3"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine, and no source but those that a test names."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "no such mirror"))


@pytest.fixture
def serve() -> Iterator[Callable[..., Loopback]]:
    """Start a server; it stops with the test."""
    with ExitStack() as stack:

        def start(body: bytes = TINY.archive, **behaviour: object) -> Loopback:
            return stack.enter_context(Loopback(body, **behaviour))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that is not there yet, with a space and an umlaut in its name."""
    return tmp_path / "my dätä"


def state_of(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every path under `folder` with its inode, time of change and content: equal only where nobody has written."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
            hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *folder.rglob("*")]
    }


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_whole(root: Path, *besides: str) -> None:
    """The data set, what is named, and nothing else: no archive, no `.part`, no lock, no staging."""
    verify(root, TINY.layout)
    assert names_in(root) == sorted([FOLDER, *besides])
    assert names_in(root / FOLDER) == sorted(TINY.files)


def run_python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    return output


# Where the files are


def test_the_official_list_is_torchvisions() -> None:
    from torchvision.datasets import CIFAR10 as theirs  # noqa: N811 - beside ours, which has its name

    assert [list(pair) for pair in CIFAR10.train] == theirs.train_list
    assert [list(pair) for pair in CIFAR10.test] == theirs.test_list
    assert CIFAR10.meta == (theirs.meta["filename"], theirs.meta["md5"])
    assert (CIFAR10.folder, CIFAR10.archive_name) == (theirs.base_folder, theirs.filename)
    assert CIFAR10.archive_md5 == theirs.tgz_md5


def test_torchvision_reads_the_tiny_files(tmp_path: Path) -> None:
    from torchvision.datasets import CIFAR10 as theirs  # noqa: N811

    layout = TINY.layout

    class Tiny(theirs):  # type: ignore[misc]
        train_list = layout.train
        test_list = layout.test
        meta = {"filename": layout.meta[0], "key": "label_names", "md5": layout.meta[1]}  # noqa: RUF012

    TINY.write_folder(tmp_path)
    assert Tiny(tmp_path, train=True).data.shape == (layout.train_images, 32, 32, 3)
    assert len(Tiny(tmp_path, train=False).targets) == layout.test_images


def test_the_room_opens_without_torch() -> None:
    script = "import sys, cifar_lightning.data.command as _; print([m for m in sys.modules if m in sys.argv[1:]])"
    assert finish(run_python(script, "torch", "torchvision", "lightning", "numpy", "rich")) == "[]\n"


@pytest.mark.parametrize(
    ("flag", "variable", "expected"),
    [
        (None, None, Root(Path("data"), "")),
        (None, "", Root(Path("data"), "")),
        (None, "/v", Root(Path("/v"), "$CIFAR10_ROOT")),
        ("/f", None, Root(Path("/f"), "--data.root")),
        ("/f", "/v", Root(Path("/f"), "--data.root")),
        (Path("data"), "/v", Root(Path("data"), "--data.root")),
        ("~/f", None, Root(Path.home() / "f", "--data.root")),
    ],
)
def test_resolve_root(
    monkeypatch: pytest.MonkeyPatch, flag: str | Path | None, variable: str | None, expected: Root
) -> None:
    if variable is not None:
        monkeypatch.setenv(ROOT_VARIABLE, variable)
    assert resolve_root(flag) == expected


def test_an_empty_flag_is_not_the_current_folder() -> None:
    with pytest.raises(ConfigError, match=r"--data\.root is empty"):
        resolve_root("")


def test_is_present(tmp_path: Path) -> None:
    assert not is_present(tmp_path, TINY.layout)
    TINY.write_folder(tmp_path)
    assert is_present(tmp_path, TINY.layout)
    (tmp_path / FOLDER / ONE_OF).unlink()
    assert not is_present(tmp_path, TINY.layout)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        pytest.param(lambda path: path.unlink(), "is missing", id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), "is damaged (MD5 d41d8cd98f00b204", id="empty"),
        pytest.param(lambda path: os.truncate(path, 5000), "is damaged (MD5 ", id="cut"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "is damaged (MD5 ", id="flipped"),
    ],
)
def test_verify_names_the_file_and_the_command(root: Path, harm: Callable[[Path], object], problem: str) -> None:
    TINY.write_folder(root)
    verify(root, TINY.layout)
    path = root / FOLDER / ONE_OF
    harm(path)
    with pytest.raises(DataError) as caught:
        verify(root, TINY.layout)
    text = str(caught.value)
    assert text.startswith(f"{path} {problem}")
    assert text.endswith(f"python -m cifar_lightning data --root '{root}'")
    assert "\n" not in text


# Fetching


@pytest.mark.parametrize("full_check", [False, True])
def test_a_fresh_download_leaves_the_data_set_and_nothing_else(root: Path, serve, full_check: bool) -> None:
    server = serve()
    prepared = prepare(root, download=True, layout=TINY.layout, mirrors=[server.url], full_check=full_check)
    assert prepared == Prepared(root, "downloaded", server.host)
    assert_whole(root)
    with (root / FOLDER / ONE_OF).open("rb") as file:
        assert sorted(pickle.load(file, encoding="latin1")) == ["data", "labels"]
    assert prepare(root, download=True, layout=TINY.layout, mirrors=[server.url]) == Prepared(root, "present")
    assert len(server.requests) == 1


def test_wrong_bytes_are_never_unpacked(root: Path, serve) -> None:
    other = tiny_dataset(seed=1)
    wrong, good = serve(other.archive), serve()
    assert len(other.archive) == len(TINY.archive), "else the size alone gives it away"
    assert prepare(root, download=True, layout=TINY.layout, mirrors=[wrong.url, good.url]).source == good.host
    assert_whole(root)
    with pytest.raises(DataError, match="served wrong bytes"):
        prepare(root / "again", download=True, layout=TINY.layout, mirrors=[wrong.url])
    assert not (root / "again").exists(), "a folder made for nothing is taken away again"


@pytest.mark.parametrize("kind", ["url", "folder", "file", "file url"])
def test_the_mirror_variable(root: Path, tmp_path: Path, serve, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    server = serve()
    usb = TINY.write_archive(tmp_path / "usb stick")
    before = state_of(usb.parent)
    mirror = {"url": server.url, "folder": str(usb.parent), "file": str(usb), "file url": usb.as_uri()}[kind]
    monkeypatch.setenv(MIRROR_VARIABLE, mirror)
    prepared = prepare(root, download=True, layout=TINY.layout)
    assert prepared == (
        Prepared(root, "downloaded", server.host) if kind == "url" else Prepared(root, "unpacked", str(usb))
    )
    assert_whole(root)
    assert state_of(usb.parent) == before


def test_where_nothing_answers_the_error_names_the_ways_out(root: Path, serve) -> None:
    servers = serve(status=404), serve(bytes(len(TINY.archive)))
    with pytest.raises(DataError) as caught:
        prepare(
            root,
            download=True,
            layout=TINY.layout,
            mirrors=[server.url for server in servers],
            given_by="--data.root",
        )
    text = str(caught.value)
    for part in (
        f"not in {root / FOLDER} (named by --data.root)",
        f"{servers[0].host}: HTTP 404 Not Found",
        f"{servers[1].host}: served wrong bytes",
        "CIFAR10_MIRROR=<url or folder of the archive>",
        "--data.root or $CIFAR10_ROOT",
        "--config configs/offline.yaml",
    ):
        assert part in text
    assert "\n" not in text
    assert not root.exists()


def test_no_way_to_a_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        prepare(tmp_path / "file" / "data", download=True, layout=TINY.layout)


def test_a_full_disk_leaves_no_half_unpacked_files(root: Path, tmp_path: Path) -> None:
    usb = TINY.write_archive(tmp_path / "usb")
    script = f"""
import resource
from pathlib import Path
from cifar_lightning.data.archive import Layout, prepare
from cifar_lightning.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    prepare(Path({str(root)!r}), download=True, layout={TINY.layout!r}, mirrors=[{str(usb)!r}])
except OutputError as error:
    print(error)
"""
    assert f"cannot be unpacked into {root}: File too large" in finish(run_python(script))
    assert not root.exists()


# A folder that the user gave


def lay_nothing(root: Path) -> None:
    (root / "notes.txt").write_text("mine")


def lay_half(root: Path) -> None:
    TINY.write_folder(root)
    (root / FOLDER / ONE_OF).unlink()


def lay_archive(root: Path) -> None:
    TINY.write_archive(root)


@pytest.mark.parametrize(
    ("lay", "problem"),
    [
        (lay_nothing, f"CIFAR-10 is not in {{root}}/{FOLDER} (named by $CIFAR10_ROOT), and"),
        (lay_half, f"CIFAR-10 in {{root}}/{FOLDER} (named by $CIFAR10_ROOT) lacks {ONE_OF}, and"),
        (lay_archive, f"CIFAR-10 is not in {{root}}/{FOLDER} (named by $CIFAR10_ROOT), though {ARCHIVE} lies beside"),
    ],
)
def test_a_given_root_without_the_data_is_left_untouched(
    root: Path, serve, lay: Callable[[Path], None], problem: str
) -> None:
    root.mkdir()
    lay(root)
    before, server = state_of(root), serve()
    with pytest.raises(DataError) as caught:
        prepare(root, download=False, layout=TINY.layout, mirrors=[server.url], given_by="$CIFAR10_ROOT")
    text = str(caught.value)
    assert text.startswith(problem.format(root=root))
    for way in (f"data --root '{root}'", "CIFAR10_MIRROR=", "--data.root or $CIFAR10_ROOT", "configs/offline.yaml"):
        assert way in text
    assert "\n" not in text
    assert state_of(root) == before
    assert not server.requests


@pytest.mark.parametrize("download", [False, True])
def test_the_inner_folder_is_not_a_root(root: Path, download: bool) -> None:
    TINY.write_folder(root)
    before = state_of(root)
    with pytest.raises(DataError, match="give its parent instead") as caught:
        prepare(root / FOLDER, download=download, layout=TINY.layout)
    assert f"--data.root '{root}'" in str(caught.value)
    assert state_of(root) == before


WATCHED = """
import os, sys
from pathlib import Path
from cifar_lightning.data.archive import Layout, prepare
import cifar_lightning.data.progress
root, writes = {root!r}, []
def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(root):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            writes.append(event)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.chmod", "fcntl.flock"):
        writes.append(event)
sys.addaudithook(watch)
prepare(Path(root), download=True, layout={layout!r}, full_check={full_check}, mirrors=[{mirror!r}])
print(len(writes))
"""


@pytest.mark.parametrize("full_check", [False, True])
def test_valid_files_are_read_without_a_write_or_a_lock(root: Path, tmp_path: Path, full_check: bool) -> None:
    # Root passes over permissions, so a read-only folder would prove nothing: the interpreter itself tells on us.
    TINY.write_folder(root)
    before = state_of(root)
    usb = str(TINY.write_archive(tmp_path / "usb"))
    script = WATCHED.format(root=str(root), layout=TINY.layout, full_check=full_check, mirror=usb)
    assert finish(run_python(script)) == "0\n"
    assert state_of(root) == before
    (root / FOLDER / ONE_OF).unlink()
    assert int(finish(run_python(script))) > 7, "the watch sees writes"


# Repairing


def remove_one(folder: Path) -> None:
    (folder / ONE_OF).unlink()


def cut_one(folder: Path) -> None:
    os.truncate(folder / ONE_OF, 100)


def leave_staging(folder: Path) -> None:
    remove_one(folder)
    for place in (folder, folder.parent):
        (place / STAGING_NAME).mkdir()
        (place / STAGING_NAME / "data_batch_1").write_bytes(b"half")


@pytest.mark.parametrize(
    ("harm", "full_check"), [(remove_one, False), (remove_one, True), (cut_one, True), (leave_staging, False)]
)
def test_repair_from_the_archive_beside_needs_no_network(
    root: Path, harm: Callable[[Path], None], full_check: bool
) -> None:
    TINY.write_folder(root)
    beside = TINY.write_archive(root)
    harm(root / FOLDER)
    prepared = prepare(root, download=True, layout=TINY.layout, full_check=full_check)
    assert prepared == Prepared(root, "unpacked", str(beside), repaired=True)
    assert_whole(root, ARCHIVE)


def test_repair_by_download_keeps_what_else_lies_there(root: Path, serve) -> None:
    TINY.write_folder(root)
    (root / FOLDER / "readme.html").write_text("mine")
    cut_one(root / FOLDER)
    server = serve()
    assert prepare(root, download=True, layout=TINY.layout, mirrors=[server.url]).action == "present"
    prepared = prepare(root, download=True, layout=TINY.layout, mirrors=[server.url], full_check=True)
    assert prepared == Prepared(root, "downloaded", server.host, repaired=True)
    verify(root, TINY.layout)
    assert (root / FOLDER / "readme.html").read_text() == "mine"
    assert names_in(root) == [FOLDER]


def test_a_half_extracted_folder_offline_keeps_its_good_files(root: Path) -> None:
    TINY.write_folder(root)
    remove_one(root / FOLDER)
    before = state_of(root / FOLDER)
    with pytest.raises(DataError, match=f"lacks {ONE_OF}"):
        prepare(root, download=True, layout=TINY.layout)
    assert state_of(root / FOLDER) == before
    assert names_in(root) == [FOLDER]


def test_an_interrupted_repair_never_takes_a_good_file_away(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TINY.write_folder(root)
    TINY.write_archive(root)
    remove_one(root / FOLDER)
    replaced: list[str] = []

    def replace_and_stop(source: Path, target: Path) -> None:
        if len(replaced) == 2:
            raise KeyboardInterrupt
        replaced.append(target.name)
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("cifar_lightning.data.unpack.os.replace", replace_and_stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, download=True, layout=TINY.layout)
    assert len(replaced) == 2
    for name in TINY.files.keys() - {ONE_OF}:
        assert (root / FOLDER / name).read_bytes() == TINY.files[name]
    assert names_in(root) == sorted([ARCHIVE, FOLDER]), "neither lock nor staging stay"
    prepare(root, download=True, layout=TINY.layout)
    assert_whole(root, ARCHIVE)


def test_a_damaged_archive_is_fetched_anew_and_stays(root: Path, serve) -> None:
    replace(TINY, archive=TINY.archive[:-10]).write_archive(root)
    lines: list[str] = []
    prepare(root, download=True, layout=TINY.layout, mirrors=[serve().url], report=lines.append)
    assert lines[0].startswith(f"CIFAR-10: {root / ARCHIVE} is damaged (MD5 ")
    assert_whole(root, ARCHIVE)
    assert (root / ARCHIVE).read_bytes() == TINY.archive


# Archives that are not what they say


def members(**changed: bytes) -> list[Member]:
    return [file_member(f"{FOLDER}/{name}", changed.get(name, content)) for name, content in TINY.files.items()]


INSIDE = f"{FOLDER}/data_batch_1"
DEEP = f"{FOLDER}/../../escaped"
CRAFTED = {
    "traversal": ([*members(), file_member("../escaped", b"!")], "a path that leads outside, '../escaped'"),
    "traversal within": ([*members(), file_member(DEEP, b"!")], f"a path that leads outside, '{DEEP}'"),
    "absolute": ([*members(), file_member("/tmp/escaped", b"!")], "an absolute path, '/tmp/escaped'"),
    "symlink": ([special_member(INSIDE, tarfile.SYMTYPE, "/etc/passwd"), *members()], f"a link, '{INSIDE}'"),
    "symlinked folder": ([special_member(FOLDER, tarfile.SYMTYPE, ".."), *members()], f"a link, '{FOLDER}'"),
    "hard link": ([special_member(INSIDE, tarfile.LNKTYPE, "../x"), *members()], f"a link, '{INSIDE}'"),
    "device": ([special_member(INSIDE, tarfile.CHRTYPE), *members()], "a device or another special file"),
    "pipe": ([special_member(INSIDE, tarfile.FIFOTYPE), *members()], "a device or another special file"),
    "extra file": ([*members(), file_member(f"{FOLDER}/run.sh", b"!")], f"'{FOLDER}/run.sh', which is not part"),
    "extra file outside": ([file_member("data_batch_1", b"!"), *members()], "'data_batch_1', which is not part"),
    "extra folder": ([directory_member(f"{FOLDER}/more"), *members()], f"'{FOLDER}/more', which is not part"),
    "twice": ([*members(), members()[0]], f"'{INSIDE}', which is not part of the data set or is there twice"),
    "newline": ([*members(), file_member("a\nb", b"!")], "'a\\nb', which is not part"),
    "damaged member": (members(data_batch_1=b"?"), f"{INSIDE} is damaged (MD5 "),
    "missing member": (members()[1:], f"lacks {INSIDE}"),
    "empty": ([], f"lacks {FOLDER}/batches.meta, "),
}


@pytest.mark.parametrize("half_there", [False, True])
@pytest.mark.parametrize(("content", "problem"), CRAFTED.values(), ids=CRAFTED)
def test_a_crafted_archive_is_refused_whole(root: Path, content: list[Member], problem: str, half_there: bool) -> None:
    crafted = tar_gz(content)
    layout = layout_of(TINY.files, crafted)
    if half_there:
        TINY.write_folder(root)
        remove_one(root / FOLDER)
    replace(TINY, archive=crafted).write_archive(root)
    before = state_of(root.parent)
    with pytest.raises(DataError) as caught:
        prepare(root, download=True, layout=layout)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    after = state_of(root.parent)
    assert {name: state[2] for name, state in after.items()} == {name: state[2] for name, state in before.items()}
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize("content", [b"no tar at all", TINY.archive[:20_000]], ids=["no tar", "cut"])
def test_what_is_no_archive_is_a_data_error(root: Path, content: bytes) -> None:
    path = replace(TINY, archive=content).write_archive(root)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, root, layout_of(TINY.files, content))
    assert names_in(root) == [ARCHIVE]


def test_unpack_itself_looks_at_the_digest_first(root: Path) -> None:
    path = replace(TINY, archive=tiny_dataset(seed=1).archive).write_archive(root)
    with pytest.raises(DataError, match=rf"{ARCHIVE} is damaged \(MD5"):
        unpack(path, root, TINY.layout)
    assert names_in(root) == [ARCHIVE]


# Several processes


PREPARE = """
import json, sys
from pathlib import Path
from cifar_lightning.data.archive import Layout, prepare
prepared = prepare(Path(sys.argv[1]), download=True, layout={layout!r}, mirrors=[sys.argv[2]])
print(json.dumps([prepared.action, Path(sys.argv[1]).joinpath("cifar-10-batches-py", "batches.meta").exists()]))
"""


def test_four_processes_at_once_make_one_download(root: Path, serve) -> None:
    server = serve(delay_seconds=0.5)
    script = PREPARE.format(layout=TINY.layout)
    processes = [run_python(script, str(root), server.url) for _ in range(4)]
    results = [json.loads(finish(process)) for process in processes]
    assert sorted(results) == [["downloaded", True]] + 3 * [["present", True]]
    assert len(server.requests) == 1
    assert_whole(root)


def test_a_killed_holder_blocks_nobody(root: Path, serve) -> None:
    server = serve(hang_after_bytes=[20_000])
    process = run_python(PREPARE.format(layout=TINY.layout), str(root), server.url)
    part = root / f"{ARCHIVE}.part"
    deadline = time.monotonic() + 10
    while not part.exists() or part.stat().st_size < 20_000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert names_in(root) == [".cifar10.lock", part.name]
    prepare(root, download=True, layout=TINY.layout, mirrors=[server.url])
    assert server.requests[1].range == "bytes=20000-"
    assert_whole(root)


def test_the_lock_that_counts_is_the_one_in_the_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # While we wait, the holder removes the file: the lock that we then get excludes nobody.
    wait_for, waits = lock._wait_for, []

    def wait_and_lose_it(file: BinaryIO, path: Path, report: Callable[[str], None]) -> None:
        wait_for(file, path, report)
        waits.append(path)
        if len(waits) == 1:
            path.unlink()

    monkeypatch.setattr(lock, "_wait_for", wait_and_lose_it)
    with lock.locked(root, print):
        assert (root / lock.LOCK_NAME).exists()
    assert len(waits) == 2
    assert not root.exists()


# The `data` verb


def test_the_verb_downloads_then_finds_then_repairs(
    root: Path, serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    monkeypatch.setenv(MIRROR_VARIABLE, server.url)
    found = f"CIFAR-10: 20 training and 4 test images in {root / FOLDER} (7 files, MD5 verified)"
    for arguments, story in (
        (["--root", str(root)], f"downloaded from {server.host}"),
        ([f"--data.root={root}"], "already there"),
    ):
        assert main(arguments, TINY.layout) == 0
        assert capsys.readouterr().out == f"{found}, {story}\n"
    cut_one(root / FOLDER)
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    assert main([], TINY.layout) == 0
    assert capsys.readouterr().out == f"{found}, repaired, downloaded from {server.host}\n"


def test_the_verb_uses_the_default_folder(
    tmp_path: Path, serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MIRROR_VARIABLE, serve().url)
    assert main([], TINY.layout) == 0
    assert f"in {tmp_path / 'data' / FOLDER} (7 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--rot", "x"], "unknown argument --rot, did you mean '--root'?"),
        (["--data.rot=x"], "unknown argument --data.rot, did you mean '--data.root'?"),
        (["--roo", "x"], "unknown argument --roo, did you mean '--root'?"),
        (["somewhere"], "unknown argument somewhere;"),
        (["--root"], "argument --root/--data.root: expected one argument"),
        (["--root", ""], "--data.root is empty"),
    ],
)
def test_the_verb_rejects(arguments: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        main(arguments, TINY.layout)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


# The real data set


real = pytest.mark.skipif(not REAL_ROOT, reason=f"${ROOT_VARIABLE} names no copy of the official CIFAR-10")


@real
def test_the_real_files_verify() -> None:
    verify(Path(REAL_ROOT))


@real
def test_the_verb_on_the_real_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, REAL_ROOT)
    assert main([]) == 0
    assert capsys.readouterr().out == (
        f"CIFAR-10: 50,000 training and 10,000 test images in {Path(REAL_ROOT).absolute() / FOLDER} "
        "(7 files, MD5 verified), already there\n"
    )


@real
def test_the_real_counts() -> None:
    from torchvision.datasets import CIFAR10 as theirs  # noqa: N811

    layout: Layout = archive.CIFAR10
    assert len(theirs(REAL_ROOT, train=True).data) == layout.train_images
    assert len(theirs(REAL_ROOT, train=False).data) == layout.test_images
