"""Runs that are there already: folders of this machine and published files, and which of them are a system's."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar_lightning.errors import OutputError
from cifar_lightning.runs import run_dir
from cifar_lightning.runs.record import read_rows
from cifar_lightning.runs.settings import differing, settings_of, without_folders

PUBLISHED_RUNS = "runs"  # inside of a published study's folder


@dataclass(frozen=True)
class FoundRun:
    """One run's small files."""

    content: dict[str, Any]  # `run`, `epochs`, `timings`, as `record` writes them
    name: str
    folder: Path | None  # None: only its published file is here
    is_published: bool = False  # as it is here
    mistakes: Path | None = None  # the picture of its worst mistakes

    @property
    def record(self) -> dict[str, Any]:
        """The run's run.json."""
        record: dict[str, Any] = self.content["run"]
        return record

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.record["seed"])

    @property
    def status(self) -> str:
        """'finished', 'failed', 'interrupted' or 'running' (which a killed one says as well)."""
        return str(self.record["status"])

    @property
    def digests(self) -> list[str]:
        """The package's source under the run and under each resumption; 'unknown' of runs before there was a digest."""
        sessions = [self.record, *self.record.get("resumed", [])]
        return list(dict.fromkeys(session.get("package_digest", "unknown") for session in sessions))

    @property
    def checkpoint(self) -> Path | None:
        """Where `fit --ckpt` can go on; None where nothing was saved, or not here."""
        last = self.folder / run_dir.CHECKPOINTS / "last.ckpt" if self.folder else None
        return last if last and last.is_file() else None

    @property
    def epochs(self) -> int:
        """How many are in its curve."""
        return len(self.content["epochs"])


def find_runs(logs: Path, published: Path | None, system: str) -> list[FoundRun]:
    """Every run that lies where this system's runs do, in the order of their starts.

    Args:
        logs: the study's folder; a system's runs lie in `<logs>/<system>/<recipe>/<run>`.
        published: a published study's folder.
        system: its name.

    Raises:
        OutputError: a run's file cannot be read.
    """
    here = [_from_folder(path.parent) for path in logs.glob(f"{system}/*/*/{run_dir.RECORD}")]
    there = [_from_file(path) for path in (published / PUBLISHED_RUNS / system).glob("*.json")] if published else []
    # A run that is here and published as well is one run; one that has gone on since stands beside what was published.
    known = [run.content for run in there]
    here = [replace(run, is_published=without_folders(run.content) in known) for run in here]
    both = [without_folders(run.content) for run in here if run.is_published]
    found = here + [run for run in there if run.content not in both]
    return sorted(found, key=lambda run: (run.record["started_at"], run.name))


def why_not(run: FoundRun, settings: dict[str, Any]) -> str:
    """What makes `run` another experiment than `settings`; empty where it is the same one."""
    its = settings_of(run.record["config"])
    if "trainer.precision" not in settings:
        its.pop("trainer.precision", None)
    names = differing(its, without_folders(settings))
    changes = [f"{name} was {its.get(name)!r} and is {settings.get(name)!r}" for name in names]
    return "; ".join(changes[:2]) + (f" and {len(changes) - 2} more" if len(changes) > 2 else "")


def _from_folder(folder: Path) -> FoundRun:
    record = run_dir.read_record(folder)
    tables = {"epochs": folder / "metrics.csv", "timings": folder / "timings.csv"}
    rows = {name: read_rows(path) if path.is_file() else [] for name, path in tables.items()}
    mistakes = folder / "mistakes.png"
    picture = mistakes if mistakes.is_file() else None
    return FoundRun({"run": record, **rows}, folder.name, folder, mistakes=picture)


def _from_file(path: Path) -> FoundRun:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OutputError(f"{path} cannot be read ({error}); it should be a published run") from error
    if not isinstance(content, dict) or not {"run", "epochs", "timings"} <= set(content):
        raise OutputError(f"{path} is not a published run: it needs run, epochs and timings")
    return FoundRun(content, path.stem, None, is_published=True)
