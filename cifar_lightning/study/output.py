"""A study's files: its table and page in its own folder, and what of it is published."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_lightning.errors import OutputError
from cifar_lightning.files import write_bytes, write_json, write_text
from cifar_lightning.settings import without_folders
from cifar_lightning.study.found import PUBLISHED_RUNS
from cifar_lightning.study.plan import DONE, FAILED, Task
from cifar_lightning.study.report import FIGURES, Figures, render

TABLE = "study.json"


def write_study(table: dict[str, Any], figures: Figures, logs: Path) -> None:
    """study.json, report.html and report.md with its figures, into the study's folder.

    Raises:
        OutputError: a file cannot be written.
    """
    _write_page(table, figures, logs)
    write_text(logs / "report.html", render("report.html.j2", table, figures))
    write_json(logs / TABLE, table)


def publish(table: dict[str, Any], figures: Figures, tasks: Sequence[Task], folder: Path) -> None:
    """report.md, its figures and one small JSON per finished or failed run, none with a path of this machine.

    report.html is not among them: it holds every figure once more, and a repository keeps each version of it. The page
    can be made again from these files and from runs that come later. Runs that are published already stay.

    Raises:
        OutputError: a file cannot be written.
    """
    _write_page(table, figures, folder)
    for task in tasks:
        if task.run is not None and task.action in (DONE, FAILED):
            target = folder / PUBLISHED_RUNS / task.system.name / f"{task.run.name}.json"
            _make(target.parent)
            write_json(target, without_folders(task.run.content))


def _write_page(table: dict[str, Any], figures: Figures, folder: Path) -> None:
    _make(folder / FIGURES)
    for path in (folder / FIGURES).iterdir():
        if path.name not in figures and path.suffix in (".svg", ".png"):  # of a system that is gone
            path.unlink()
    for name, content in figures.items():
        write_bytes(folder / FIGURES / name, content)
    write_text(folder / "report.md", render("report.md.j2", table, figures))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}") from error
