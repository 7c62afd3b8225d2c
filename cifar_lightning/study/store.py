"""Runs that are there already: folders of this machine and published files, and which of them are a system's."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar_lightning.runs.record import RECORD, RunFiles, RunRecord, read_files, read_run, study_folder
from cifar_lightning.runs.run_dir import CHECKPOINTS
from cifar_lightning.runs.settings import differing, settings_of, without_folders


@dataclass(frozen=True)
class StoredRun:
    """A run that is there already."""

    content: RunFiles
    name: str
    folder: Path | None  # None: only its published file is here
    is_published: bool = False  # as it is here

    @property
    def record(self) -> RunRecord:
        """The run's run.json."""
        return self.content.run

    @property
    def seed(self) -> int:
        """Of the run."""
        return self.record.seed

    @property
    def epochs(self) -> int:
        """How many are in its curve."""
        return len(self.content.epochs)

    def file(self, name: str) -> Path | None:
        """A file of its folder; None where it was not written, or is not here."""
        return self.folder / name if self.folder and (self.folder / name).is_file() else None

    @property
    def checkpoint(self) -> Path | None:
        """Where `fit --ckpt` can go on."""
        return self.file(f"{CHECKPOINTS}/last.ckpt")


def find_runs(logs: Path, published: Path | None, system: str, seed: int | None = None) -> list[StoredRun]:
    """Every run of a system, in the order of their starts.

    Args:
        logs: the study's folder, which has its name; runs lie in `<logs>/<system>/<recipe>/<run>`.
        published: a folder of results, whose `runs/<study>-<system>/` holds the runs that are published.
        system: its name.
        seed: reads only the runs of this seed that are here; by default of all.

    Raises OutputError: a run's file cannot be read.
    """
    files = study_folder(published, logs.name, system).glob("*.json") if published else []
    archived = {path.stem: read_run(path) for path in files}
    found = []
    for path in (logs / system).glob(f"*/{'*' if seed is None else f'*-s{seed}*'}/{RECORD}"):
        content, name = read_files(path.parent), path.parent.name
        # A run that is here and published as well is one run; one that has gone on since stands beside what was
        # published.
        without_places = replace(content, run=RunRecord.from_json(without_folders(content.run.to_json())))
        is_published = name in archived and archived[name] == without_places
        if is_published:
            del archived[name]
        found.append(StoredRun(content, name, path.parent, is_published))
    found += [StoredRun(content, name, None, is_published=True) for name, content in archived.items()]
    found = [run for run in found if seed in (None, run.seed)]
    return sorted(found, key=lambda run: (run.record.started_at, run.name))


def why_not(run: StoredRun, settings: dict[str, Any]) -> str:
    """What makes `run` another experiment than `settings`; empty where it is the same one."""
    ran = settings_of(run.record.config)
    if "trainer.precision" not in settings:
        ran.pop("trainer.precision", None)
    names = differing(ran, without_folders(settings))
    changes = [f"{name} was {ran.get(name)!r} and is {settings.get(name)!r}" for name in names]
    return "; ".join(changes[:2]) + (f" and {len(changes) - 2} more" if len(changes) > 2 else "")
