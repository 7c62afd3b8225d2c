"""Run folders are made for one run alone, and `best` and `last` find them again."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from cifar_lightning.errors import CheckpointError, OutputError
from cifar_lightning.runner.job import locked
from cifar_lightning.runs import run_dir

NOON = datetime(2026, 1, 2, 12, 0, 5)


def test_the_folder_s_name(tmp_path: Path) -> None:
    assert run_dir.create(tmp_path, "final", 3, NOON) == tmp_path / "final" / "2026-01-02_12-00-05-s3"


def test_ten_runs_of_one_second_get_ten_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: run_dir.create(tmp_path, "final", 0, NOON), range(10)))
    assert sorted(path.name for path in made) == sorted(
        ["2026-01-02_12-00-05-s0", *(f"2026-01-02_12-00-05-s0-{number}" for number in range(2, 11))]
    )


def test_logs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(OutputError, match=r"cannot make the run's folder .*--trainer\.default_root_dir"):
        run_dir.create(tmp_path / "logs", "final", 0, NOON)


def made_run(logs: Path, name: str, started_at: str, *checkpoints: str) -> Path:
    folder = logs / "final" / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"started_at": started_at}))
    for checkpoint in checkpoints:
        (folder / "checkpoints" / f"{checkpoint}.ckpt").write_text("")
    return folder


def test_best_and_last_are_of_the_newest_run_with_a_checkpoint(tmp_path: Path) -> None:
    # Written in another order than started, so that a file's age decides nothing.
    newest = made_run(tmp_path, "b", "2026-01-03T00:00:00-05:00", "best", "last")
    made_run(tmp_path, "e", "2026-01-03T01:00:00+00:00", "best", "last")  # four hours before, by its own clock later
    (made_run(tmp_path, "f", "x", "last") / "run.json").write_text("{}")  # somebody else's
    made_run(tmp_path, "a", "2026-01-02T00:00:00+00:00", "best", "last")
    made_run(tmp_path, "c", "2026-01-04T00:00:00+00:00")
    for which in ("best", "last"):
        assert run_dir.find_checkpoint(which, tmp_path) == newest / "checkpoints" / f"{which}.ckpt"


def test_no_best_names_what_there_is(tmp_path: Path) -> None:
    folder = made_run(tmp_path, "a", "2026-01-02T00:00:00+00:00", "last")
    with pytest.raises(CheckpointError, match=r"has no best checkpoint, but it has .*last.ckpt") as caught:
        run_dir.find_checkpoint("best", tmp_path)
    assert str(folder) in str(caught.value)


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no run with a checkpoint in .*; train one with"):
        run_dir.find_checkpoint("last", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("which", "text"),
    [("nowhere.ckpt", "no such file"), ("https://host/x.ckpt", "a URL is never loaded"), (".", "is a folder")],
)
def test_paths_that_are_none(which: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=text):
        run_dir.find_checkpoint(which, tmp_path)


def test_a_checkpoint_knows_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = made_run(tmp_path, "a", "2026-01-02T00:00:00+00:00", "last")
    assert run_dir.run_of(folder / "checkpoints" / "last.ckpt") == Path("final/a")
    (tmp_path / "alone.ckpt").write_text("")
    assert run_dir.run_of(tmp_path / "alone.ckpt") is None


def test_a_folder_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network folders."""

    def refuse(*arguments: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OutputError, match="locked: No locks available; name another place"), run_dir.in_use(tmp_path):
        pass
    with pytest.raises(OutputError, match="cannot be locked: No locks available"), locked(tmp_path / "a.lock"):
        pass
