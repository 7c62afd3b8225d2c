"""Small files: whole or not there."""

from pathlib import Path

import pytest

from cifar_lightning.errors import OutputError
from cifar_lightning.files import write_csv, write_json, write_text


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
