"""Where the official files are looked for, whether they are whole, and how they are fetched, on tiny files."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from data.folders import ONE_OF, assert_whole, state_of
from data.official_format import FOLDER, TINY, tiny_dataset
from data.processes import finish, run_python

from cifar_lightning.data.archive import (
    CIFAR10,
    MIRROR_VARIABLE,
    ROOT_VARIABLE,
    Prepared,
    Root,
    prepare,
    resolve_root,
    verify,
)
from cifar_lightning.errors import ConfigError, DataError, OutputError

pytestmark = pytest.mark.usefixtures("offline")


REAL_ROOT = os.environ.get(ROOT_VARIABLE, "")  # read here: the tests themselves run without it
real = pytest.mark.skipif(not REAL_ROOT, reason=f"${ROOT_VARIABLE} names no copy of the official CIFAR-10")


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


def test_the_error_says_that_the_variable_was_asked_alone(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"and \$CIFAR10_MIRROR does not have it: {tmp_path}/no such mirror: there is"):
        prepare(root, download=True, layout=TINY.layout)


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


@real
def test_the_real_files_verify() -> None:
    verify(Path(REAL_ROOT))


@real
def test_the_real_counts() -> None:
    from torchvision.datasets import CIFAR10 as theirs  # noqa: N811

    assert len(theirs(REAL_ROOT, train=True).data) == CIFAR10.train_images
    assert len(theirs(REAL_ROOT, train=False).data) == CIFAR10.test_images
