"""The published studies: their pages say what their runs' files say, and no more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cifar_lightning.runs.record import study_folder
from cifar_lightning.runs.settings import without_folders
from cifar_lightning.study.command import main
from cifar_lightning.study.spec import Study, read_study

PROJECT = Path(__file__).parents[2]
RESULTS = PROJECT / "results"
STUDIES = pytest.mark.parametrize("config", ["configs/report", "configs/searched"])


def published_runs(study: Study) -> list[tuple[str, dict[str, Any]]]:
    """(system, content) of each."""
    return [
        (system.name, json.loads(path.read_text(encoding="utf-8")))
        for system in study.systems
        for path in sorted(study_folder(RESULTS, study.name, system.name).glob("*.json"))
    ]


@STUDIES
def test_its_page_can_be_made_again_from_its_runs(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, copy = read_study(PROJECT / config).name, tmp_path / "results"
    shutil.copytree(RESULTS, copy)
    (copy / name / "report.md").unlink()
    figures = {path.name: path.read_bytes() for path in (RESULTS / name / "figures").iterdir()}
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr("cifar_lightning.study.command.draw", lambda table: figures)  # their looks depend on the fonts
    main([config, "--gather", "--logs", str(tmp_path / "logs"), "--publish", str(copy)])
    for path in RESULTS.rglob("*"):  # and everything else stays as it is
        if path.is_file():
            assert (copy / path.relative_to(RESULTS)).read_bytes() == path.read_bytes(), path


@STUDIES
def test_its_runs_are_of_the_real_data_and_of_committed_code(config: str) -> None:
    study = read_study(PROJECT / config)
    systems = {system.name: system for system in study.systems}
    runs = published_runs(study)
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


@STUDIES
def test_no_figure_is_too_large_for_a_repository(config: str) -> None:
    folder = RESULTS / read_study(PROJECT / config).name / "figures"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert {name: size for name, size in sizes.items() if size >= 300_000} == {}
    assert "test-accuracy.svg" in sizes
