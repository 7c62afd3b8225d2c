"""Rows 15 to 21: the data set missing, damaged, half there, dropped, lied about, and prepared by many at once."""

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from data.folders import names_in, state_of
from data.loopback import Loopback
from data.official_format import Member, file_member, special_member, tar_gz
from faults.forked import Fault, ForkServer
from faults.injections import TINY_TRAINED
from faults.scenes import Bomb
from run_folders import record_of
from tiny import TINY_FLAGS

from cifar_lightning.data.download import LOCK_NAME
from cifar_lightning.data.layouts import ARCHIVE, FOLDER

pytestmark = pytest.mark.slow

SHORT = ["fit", *TINY_FLAGS, "--trainer.max_epochs=1", "--final_test=false"]
NOWHERE: Fault = ("small_downloads", {"mirrors": []})
LOOP = {"no_proxy": "127.0.0.1", "CIFAR10_MIRROR": ""}


@pytest.fixture
def serve() -> Iterator[Callable[..., Loopback]]:
    """Starts a server; it stops with the test."""
    with ExitStack() as stack:

        def start(body: bytes = TINY_TRAINED.archive, **behaviour: Any) -> Loopback:
            return stack.enter_context(Loopback(body, **behaviour))

        yield start


def mirrors(*servers: Loopback) -> list[Fault]:
    return [("small_downloads", {"mirrors": [server.url for server in servers]})]


def assert_whole(*besides: str) -> None:
    assert names_in(Path("data")) == sorted([FOLDER, LOCK_NAME, *besides])
    for name, md5 in TINY_TRAINED.layout.files.items():
        assert hashlib.md5((Path("data") / FOLDER / name).read_bytes()).hexdigest() == md5


def refused(cli: ForkServer, *arguments: str, faults: list[Fault] | None = None, **settings: Any) -> str:
    """What a command says in its last line that ends with 3 and starts no run."""
    settings.setdefault("environment", LOOP)
    exit_code, _, err = cli.run(*arguments, faults=faults or [NOWHERE], **settings)
    assert exit_code == 3, err
    *progress, last = err.splitlines()
    assert last.startswith("error: ")
    assert all(line.startswith("CIFAR-10: ") for line in progress)
    assert "Traceback" not in err
    assert not Path("lightning_logs").exists()
    return last


def damage(name: str, how: str) -> None:
    path = Path("data") / FOLDER / name
    if how == "missing":
        path.unlink()
    elif how == "cut":
        os.truncate(path, 1000)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "how"),
    [("data_batch_3", "missing"), ("data_batch_3", "cut"), ("data_batch_3", "flipped"), ("batches.meta", "missing")],
)
def test_a_bad_file_is_named_with_the_command_that_mends_it(cli: ForkServer, name: str, how: str) -> None:
    damage(name, how)
    before = state_of(Path("data"))
    err = refused(cli, *SHORT, environment={**LOOP, "CIFAR10_ROOT": "data"})
    assert name in err
    assert "python -m cifar_lightning data --root data" in err
    assert state_of(Path("data")) == before


def test_no_data_and_no_source_names_the_ways_out(cli: ForkServer) -> None:
    shutil.rmtree("data")
    err = refused(cli, *SHORT, "--data.source=official")
    for way in ("CIFAR10_MIRROR", "--data.root", "--data.source sample"):
        assert way in err
    assert names_in(Path("data")) == [LOCK_NAME]


def test_a_half_extracted_set_is_repaired_from_the_archive_beside_it(cli: ForkServer) -> None:
    damage("data_batch_3", "missing")
    TINY_TRAINED.write_archive(Path("data"))
    exit_code, _, err = cli.run(*SHORT, faults=[NOWHERE, ("no_network", {})], environment=LOOP)
    assert exit_code == 0, err
    assert_whole(ARCHIVE)


def test_a_half_extracted_set_without_a_source(cli: ForkServer) -> None:
    damage("data_batch_3", "missing")
    assert "lacks data_batch_3" in refused(cli, *SHORT)
    assert (Path("data") / FOLDER / "data_batch_1").exists()


@pytest.mark.parametrize(
    "behaviour",
    [{"drop_after_bytes": 1000}, {"hang_after_bytes": 1000}, {"status": 503}],
    ids=["drops", "stalls", "busy"],
)
def test_a_bad_mirror_is_left_for_the_next(
    cli: ForkServer, serve: Callable[..., Loopback], behaviour: dict[str, Any]
) -> None:
    shutil.rmtree("data")
    bad, good = serve(**behaviour), serve()
    exit_code, _, err = cli.run("data", faults=mirrors(bad, good), environment=LOOP)
    assert exit_code == 0, err
    assert bad.requests
    assert len(good.requests) == 1
    assert_whole()


def test_where_every_mirror_drops_there_is_no_final_file(cli: ForkServer, serve: Callable[..., Loopback]) -> None:
    shutil.rmtree("data")
    err = refused(
        cli, *SHORT, "--data.source=official", faults=mirrors(serve(drop_after_bytes=1000), serve(status=404))
    )
    assert "127.0.0.1" in err
    assert names_in(Path("data")) == [LOCK_NAME]


@pytest.mark.parametrize("has_next", [True, False])
def test_wrong_bytes_are_thrown_away_unread(
    cli: ForkServer, serve: Callable[..., Loopback], tmp_path: Path, has_next: bool
) -> None:
    """An archive whose batches would write a file when they are unpickled."""
    shutil.rmtree("data")
    sentinel = tmp_path / "went off"
    bombs = [file_member(f"{FOLDER}/{name}", pickle.dumps(Bomb(sentinel))) for name in TINY_TRAINED.layout.files]
    liar = serve(tar_gz(bombs))
    if has_next:
        exit_code, _, err = cli.run(*SHORT, faults=mirrors(liar, serve()), environment=LOOP)
        assert exit_code == 0, err
        assert_whole()
    else:
        assert f"{liar.host}: damaged (MD5 " in refused(cli, *SHORT, "--data.source=official", faults=mirrors(liar))
        assert names_in(Path("data")) == [LOCK_NAME]
    assert len(liar.requests) == 1
    assert not sentinel.exists()


GOOD = [file_member(f"{FOLDER}/{name}", content) for name, content in TINY_TRAINED.files.items()]
CRAFTED: dict[str, Member] = {
    "traversal": file_member("../outside", b"x"),
    "absolute": file_member("/tmp/faults-outside", b"x"),
    "symlink": special_member(f"{FOLDER}/data_batch_1", b"2", "../../outside"),
    "extra": file_member(f"{FOLDER}/extra", b"x"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_archive_writes_nothing_outside(
    cli: ForkServer, serve: Callable[..., Loopback], tmp_path: Path, name: str
) -> None:
    shutil.rmtree("data")
    archive = tar_gz([*GOOD, CRAFTED[name]])
    right: Fault = ("layout_of_archive", {"md5": hashlib.md5(archive).hexdigest()})
    refused(cli, *SHORT, faults=[*mirrors(serve(archive)), right])
    assert not list(tmp_path.rglob("*outside*"))
    assert not Path("/tmp/faults-outside").exists()
    assert not (Path("data") / FOLDER).exists()


def test_ten_fits_at_once_get_ten_folders_and_one_download(cli: ForkServer, serve: Callable[..., Loopback]) -> None:
    shutil.rmtree("data")
    server = serve(delay_s=0.5)
    # All wait for the last one's start, then go on in the same moment.
    children = [
        cli.start(*SHORT, faults=[*mirrors(server), ("start_together", {"mark": "go"})], environment=LOOP)
        for _ in range(10)
    ]
    Path("go").touch()
    codes = [child.wait() for child in children]
    assert codes == [0] * 10, [child.err for child in children]
    assert len(server.requests) == 1
    assert_whole()
    folders = list(Path().glob("lightning_logs/default*/*"))
    assert len(folders) == 10
    assert all(record_of(folder)["status"] == "finished" for folder in folders)
    assert len({(folder / "metrics.csv").read_bytes() for folder in folders}) == 1
    assert len({folder / "checkpoints" / "last.ckpt" for folder in folders}) == 10


def test_a_read_only_data_folder_works(cli: ForkServer) -> None:
    before = state_of(Path("data"))
    exit_code, _, err = cli.run(*SHORT, faults=[("read_only", {"folder": "data"})], environment=LOOP)
    if "not permitted" in err:
        pytest.skip("this machine lets nobody mount a folder read-only, and root may write into any other")
    assert exit_code == 0, err
    assert state_of(Path("data")) == before
