"""Small files: whole or not there."""

import os
import stat
from pathlib import Path

import pytest

from cifar_lightning.errors import OutputError
from cifar_lightning.runs.atomic import sweep, write_bytes, write_csv, write_json, write_text


def test_csv_keeps_every_digit_and_writes_whole_numbers_whole(tmp_path: Path) -> None:
    rows = [{"epoch": 1.0, "loss": 0.1 + 0.2, "rate": 1e-05}, {"epoch": 2.0, "loss": 3.0}]
    write_csv(tmp_path / "t.csv", ["epoch", "loss", "rate"], rows)
    assert (tmp_path / "t.csv").read_text() == "epoch,loss,rate\n1,0.30000000000000004,1e-05\n2,3,\n"


def test_a_number_that_json_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "t.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.txt"
    write_text(path, "old")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match=r"cannot write .*t\.txt: No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["t.txt"]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "file" / "t.txt", "new")


def test_ctrl_c_in_a_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.txt"
    write_text(path, "old")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new", is_durable=True)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["t.txt"]


def test_a_durable_file_is_on_the_disk_before_it_gets_its_name_and_then_the_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deeds: list[str] = []
    replace, fsync = os.replace, os.fsync

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        deeds.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    def noted_replace(source: Path, target: Path) -> None:
        replace(source, target)
        deeds.append("name")

    monkeypatch.setattr("os.fsync", noted_fsync)
    monkeypatch.setattr("os.replace", noted_replace)
    write_bytes(tmp_path / "t.txt", b"new", is_durable=True)
    assert deeds == ["file", "name", "folder"]


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    for name in (".t.txt.17.part", "t.txt", ".hidden"):
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "t.txt"]
