"""Several processes prepare one folder."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from data.folders import assert_whole, names_in
from data.official_format import ARCHIVE, TINY
from data.processes import finish, run_python

from cifar_lightning.data import lock
from cifar_lightning.data.archive import prepare
from cifar_lightning.errors import OutputError

pytestmark = pytest.mark.usefixtures("offline")


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


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As below /proc, where making a folder fails with 'No such file or directory' each time."""

    def refuse(*arguments: object, **settings: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="cannot be written: No such file"), lock.locked(tmp_path / "x", print):
        pass
