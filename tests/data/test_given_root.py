"""A folder that the user gave is read, never written, and the message says what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from data.folders import ONE_OF, state_of
from data.official_format import ARCHIVE, FOLDER, TINY
from data.processes import finish, run_python

from cifar_lightning.data.archive import prepare
from cifar_lightning.errors import DataError

pytestmark = pytest.mark.usefixtures("offline")


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
