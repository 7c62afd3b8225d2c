"""The published study of the report: its page says what its runs' files say, and no more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cifar_lightning.runs.settings import without_folders
from cifar_lightning.study.command import main
from cifar_lightning.study.spec import read_study

PROJECT = Path(__file__).parents[2]
PUBLISHED = PROJECT / "results" / "report"


def published_runs() -> list[tuple[str, dict[str, Any]]]:
    """(system, content) of each."""
    paths = sorted(PROJECT.glob("results/runs/report-*/*.json"))
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [(path.parent.name.removeprefix("report-"), run) for path, run in zip(paths, contents, strict=True)]


def test_its_page_can_be_made_again_from_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "results"
    shutil.copytree(PUBLISHED.parent, copy)
    (copy / "report" / "report.md").unlink()
    figures = {path.name: path.read_bytes() for path in (PUBLISHED / "figures").iterdir()}
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr("cifar_lightning.study.command.draw", lambda table: figures)  # their looks depend on the fonts
    main(["configs/report", "--gather", "--logs", str(tmp_path / "logs"), "--publish", str(copy)])
    for path in PUBLISHED.parent.rglob("*"):  # and everything else stays as it is
        if path.is_file():
            assert (copy / path.relative_to(PUBLISHED.parent)).read_bytes() == path.read_bytes(), path


def test_its_runs_are_of_the_real_data_and_of_committed_code() -> None:
    systems = {system.name: system for system in read_study(PROJECT / "configs" / "report").systems}
    runs = published_runs()
    for system, content in runs:
        run = content["run"]
        assert run["source"] == "CIFAR-10"
        assert run["dirty"] is False
        assert run["seed"] in systems[system].seeds
        assert without_folders(run) == run  # no path of the machine it ran on
    finished = [(system, content) for system, content in runs if content["run"]["status"] == "finished"]
    assert finished
    for _, content in finished:
        assert content["run"]["metrics"]["test"]["images"] == 10_000
        assert len(content["epochs"]) == content["run"]["metrics"]["epochs"]
    assert len({(system, content["run"]["seed"]) for system, content in finished}) == len(finished)


def test_no_figure_is_too_large_for_a_repository() -> None:
    sizes = {path.name: path.stat().st_size for path in (PUBLISHED / "figures").iterdir()}
    assert {name: size for name, size in sizes.items() if size >= 300_000} == {}
    assert "test-accuracy.svg" in sizes
