"""Rows 6 to 13: a full disk, damage, bombs, other nets, nothing to go on with."""

import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.comparison import content_of, differences
from faults.forked import ForkServer
from faults.injections import TINY_TRAINED
from faults.scenes import Bomb, at
from run_folders import only_run
from tiny import TINY_FLAGS

from cifar_lightning.errors import CheckpointError
from cifar_lightning.runs import checkpoint

pytestmark = pytest.mark.slow

FLIPS = int(os.environ.get("FAULTS_FLIPS", "300"))


@pytest.fixture(scope="module")
def trained(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's log folder, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    TINY_TRAINED.write_folder(folder / "data")
    exit_code, _, err = fork_server.run("fit", *TINY_FLAGS, folder=folder)
    assert exit_code == 0, err
    return folder / "lightning_logs"


@pytest.fixture
def last(cli: ForkServer, trained: Path) -> Path:
    """`last.ckpt` of a finished run, free to be harmed."""
    shutil.copytree(trained, "lightning_logs")
    return only_run() / "checkpoints" / "last.ckpt"


def state_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(cli: ForkServer, *arguments: str, **settings: Any) -> str:
    """What a command says that ends with 4 and writes nothing."""
    before = state_of(Path())
    exit_code, out, err = cli.run(*arguments, **settings)
    assert exit_code == 4, err
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert state_of(Path()) == before
    return err


def test_a_full_disk_keeps_the_old_checkpoint(cli: ForkServer, tmp_path: Path) -> None:
    """A file system of its own for the logs, which fills up in the second epoch."""
    out = tmp_path / "what was on it"
    faults = [
        ("small_disk", {"folder": "lightning_logs", "mib": 2, "copy": str(out)}), ("save_every_step", {}),
        at("on_train_batch_start", 7, "fill", mark="lightning_logs/other people's"),
    ]  # fmt: skip
    exit_code, _, err = cli.fit(faults=faults)
    if "not permitted" in err:
        pytest.skip("this machine lets nobody mount a small disk; the next test limits a file's size instead")
    assert exit_code == 6, err
    (folder,) = out.glob("*/*")
    assert "last.ckpt: No space left on device" in err
    assert content_of(folder)["global_step"] == 7
    assert not list(folder.glob("checkpoints/.*"))


def test_a_file_that_may_not_grow_keeps_the_old_checkpoint(cli: ForkServer) -> None:
    faults = [("save_every_step", {}), at("on_train_batch_start", 7, "no big files")]
    exit_code, _, err = cli.fit(faults=faults)
    assert exit_code == 6, err
    assert f"cannot write {only_run()}/checkpoints/last.ckpt: File too large" in err
    assert err.count("\n") == 1
    assert content_of(only_run())["global_step"] == 7
    assert not list(only_run().glob("checkpoints/.*"))


@pytest.mark.parametrize("place", ["/dev/shm", "/nowhere"])
def test_the_temporary_folder_does_not_matter(cli: ForkServer, place: str) -> None:
    """Killed just before the move: the new file lies beside the old one, and nothing elsewhere."""
    elsewhere = Path(place) / f"faults-{os.getpid()}"
    if Path(place).is_dir():
        elsewhere.mkdir()
    try:
        faults = [("in_save", {"number": 1, "place": "before the move"})]
        exit_code, _, err = cli.fit(faults=faults, environment={"TMPDIR": str(elsewhere)})
        assert exit_code == -9, err
        assert not elsewhere.exists() or not list(elsewhere.iterdir())
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)
    (unfinished,) = only_run().glob("checkpoints/.last.ckpt.*")
    assert unfinished.stat().st_dev == (only_run() / "checkpoints" / "last.ckpt").stat().st_dev
    assert content_of(only_run())["global_step"] == 5


def cut_to(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


@pytest.mark.parametrize(
    "harm",
    [cut_to(0), cut_to(1000), lambda path: path.write_bytes(bytes(range(256)) * 40)],
    ids=["empty", "cut", "garbage"],
)
def test_a_harmed_checkpoint_is_refused_and_a_good_one_named(
    cli: ForkServer, last: Path, harm: Callable[[Path], None]
) -> None:
    harm(last)
    for verb in ("fit", "test"):
        err = refused(cli, verb, "--ckpt", "last")
        assert f"{last} is not a readable checkpoint" in err
        assert f"{last.parent}/best.ckpt, of " in err
    (last.parent / "best.ckpt").write_bytes(b"")
    assert "give another one" in refused(cli, "test", "--ckpt", "last")


def test_a_flipped_byte_is_damage(cli: ForkServer, last: Path) -> None:
    whole = last.read_bytes()
    weight = checkpoint.load(last).content["state_dict"]["net.layers.output.weight"].contiguous().numpy().tobytes()
    place = whole.index(weight)
    last.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    torch.load(last, weights_only=True)  # torch itself does not notice
    for verb in ("fit", "test"):
        assert f"{last} is damaged" in refused(cli, verb, "--ckpt", "last")


def test_every_flip_of_a_bit_is_told_or_harmless(last: Path, tmp_path: Path) -> None:
    whole, good = last.read_bytes(), checkpoint.load(last).content
    draw, path, told = random.Random(0), tmp_path / "flipped.ckpt", 0
    mark = len(whole) - checkpoint.COMMENT_BYTES
    for _ in range(FLIPS):
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))]) + whole[place + 1 :])
        try:
            content = checkpoint.load(path).content
        except CheckpointError:
            told += 1
        else:
            assert place >= mark, f"byte {place} of {mark} was flipped and nobody noticed"
            assert differences(content, good) == []
    assert told > 0.9 * FLIPS


@pytest.mark.parametrize("form", ["torch", "plain pickle"])
def test_a_pickle_bomb_does_not_go_off(cli: ForkServer, last: Path, tmp_path: Path, form: str) -> None:
    sentinel = tmp_path / "went off"
    if form == "torch":
        torch.save({**checkpoint.load(last).content, "bomb": Bomb(sentinel)}, last)
    else:
        last.write_bytes(pickle.dumps(Bomb(sentinel)))
    for verb in ("fit", "test", "validate"):
        err = refused(cli, verb, "--ckpt", str(last), environment={"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"})
        assert "is not a readable checkpoint" in err
    assert not sentinel.exists()


def test_a_class_to_import_is_not_imported(cli: ForkServer, last: Path) -> None:
    content = checkpoint.load(last).content
    section = content["cifar_lightning"]
    section["config"] = section["config"].replace("cifar_lightning.nets.report_cnn.ReportCNN", "evil_module.Net")
    checkpoint.write(content, last)
    Path("evil_module.py").write_text("open('imported', 'w')\n")
    for verb in ("fit", "test"):
        err = refused(cli, verb, "--ckpt", "last", environment={"PYTHONPATH": "."})
        assert "names the class evil_module.Net" in err


@pytest.mark.parametrize("url", ["https://127.0.0.1/a.ckpt", "http://127.0.0.1/a.ckpt", "s3://bucket/a.ckpt"])
def test_a_url_is_not_fetched(cli: ForkServer, url: str) -> None:
    for verb in ("fit", "test"):
        assert "a URL is never loaded" in refused(cli, verb, "--ckpt", url, faults=[("no_network", {})])


@pytest.mark.parametrize("verb", ["fit", "test"])
@pytest.mark.parametrize(
    ("flag", "difference"),
    [
        ("--model.net.channels=[4,4,6]", "is (8, 4, 5, 5) in the file and (6, 4, 5, 5) here"),
        ("--model.net.num_classes=7", "net.layers.output.weight is (10, 8) in the file and (7, 8) here"),
    ],
)
def test_another_net_is_told_by_its_difference(
    cli: ForkServer, last: Path, verb: str, flag: str, difference: str
) -> None:
    err = refused(cli, verb, "--ckpt", "last", flag)
    assert "holds another architecture" in err
    assert difference in err


@pytest.mark.parametrize("verb", ["fit", "test"])
@pytest.mark.parametrize("which", ["last", "best", "nowhere.ckpt", "data"])
def test_where_there_is_no_checkpoint_nothing_starts(cli: ForkServer, verb: str, which: str) -> None:
    refused(cli, verb, "--ckpt", which)
    assert not Path("lightning_logs").exists()
