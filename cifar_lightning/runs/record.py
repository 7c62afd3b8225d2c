"""What is kept of a run: its record, run.json, and in `results/runs/` one file with its record and its epochs.

`record` writes `results/runs/<recipe>/<run>.json`, `study --publish` writes `results/runs/<study>-<system>/<run>.json`.
These files are the only source of published numbers.
"""

import csv
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cifar_lightning.errors import OutputError
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.settings import without_folders

RECORD = "run.json"
RESULTS = Path("results")
RUNS = "runs"  # the archive inside of it

Row = dict[str, float]  # of an epoch, gaps left out


@dataclass(kw_only=True)
class Session:
    """A process that trained: the first one of a run, or one that went on with it.

    Fields that are younger than the file hold their defaults; `unknown` holds fields that are younger than this code.
    """

    started_at: str = ""  # ISO 8601 with the time zone; empty in a run.json that is not ours
    command: str = ""
    commit: str | None = None
    dirty: bool | None = None  # whether the tree differed from the commit
    package_digest: str | None = None  # of the package's source
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As run.json holds it: without what the run does not have (yet)."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "unknown"}
        nullable = {"commit", "dirty", "started_from"}  # written even where they are None
        kept = {name: value for name, value in values.items() if value not in (None, {}, []) or name in nullable}
        return kept | self.unknown


@dataclass(kw_only=True)
class RunRecord(Session):
    """A run's run.json; the fields of `Session` are those of its first process."""

    recipe: str = ""
    seed: int = 0
    status: str = ""  # 'running' (which a killed run says as well), 'finished', 'failed' or 'interrupted'
    source: str = ""  # of the images
    sample: str | None = None  # where the images were the sample: 'asked for', or 'fallback'
    precision: str = ""
    started_from: str | None = None  # the checkpoint of another run
    config: dict[str, Any] = field(default_factory=dict)
    data: dict[str, int] = field(default_factory=dict)  # images by split
    dropped_per_epoch: int | None = None
    parameters: int | None = None
    resumed: list[Session] = field(default_factory=list)
    speed: dict[str, float] = field(default_factory=dict)
    finished_at: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "RunRecord":
        """From the content of a run.json of any age."""
        resumed = [Session(**_arguments(Session, session)) for session in content.get("resumed", [])]
        return cls(**_arguments(cls, content) | {"resumed": resumed})

    def to_json(self) -> dict[str, Any]:
        """As run.json holds it, in its order."""
        content = super().to_json()
        if self.resumed:
            content["resumed"] = [session.to_json() for session in self.resumed]
        first = ("recipe", "seed", "status", "source", "sample", "synthetic")  # `synthetic` is of older runs
        return {name: content[name] for name in (*first, *content) if name in content}

    @property
    def sessions(self) -> list[Session]:
        """The processes that trained, in their order."""
        return [self, *self.resumed]

    @property
    def digests(self) -> list[str]:
        """The package's source under each session; 'unknown' of runs before there was a digest."""
        return list(dict.fromkeys(session.package_digest or "unknown" for session in self.sessions))


def _arguments(kind: type[Session], content: dict[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(kind)} - {"unknown"}
    known = {name: value for name, value in content.items() if name in names}
    return known | {"unknown": {name: value for name, value in content.items() if name not in names}}


@dataclass(frozen=True)
class RunFiles:
    """A run's small files: run.json, the rows of metrics.csv and timings.csv, and test.json."""

    run: RunRecord
    epochs: list[Row]
    timings: list[Row]
    test_verb: dict[str, Any] | None = field(default=None, compare=False)


def read_record(folder: Path) -> RunRecord:
    """A run's run.json; raises OutputError where there is none, or it is not readable."""
    return RunRecord.from_json(_read_json(folder / RECORD, "give the folder of a run"))


def write_record(folder: Path, record: RunRecord) -> None:
    """Replaces a run's run.json."""
    write_json(folder / RECORD, record.to_json())


def read_files(folder: Path) -> RunFiles:
    """A run's small files without test.json; a table not there yet has no rows. Raises OutputError if unreadable."""
    tables = (folder / "metrics.csv", folder / "timings.csv")
    epochs, timings = (read_rows(path) if path.is_file() else [] for path in tables)
    return RunFiles(read_record(folder), epochs, timings)


def read_run(path: Path) -> RunFiles:
    """A run of the archive; raises OutputError where the file cannot be read, or holds something else."""
    content = _read_json(path, "it should be a published run")
    if not {"run", "epochs", "timings"} <= set(content):
        raise OutputError(f"{path} is not a published run: it needs run, epochs and timings")
    run = RunRecord.from_json(content["run"])
    return RunFiles(run, content["epochs"], content["timings"], content.get("test_verb"))


def write_run(path: Path, files: RunFiles) -> None:
    """Replaces a run of the archive, without paths of this machine; raises OutputError where it cannot write."""
    content = {"run": files.run.to_json(), "epochs": files.epochs, "timings": files.timings}
    if files.test_verb is not None:
        content["test_verb"] = files.test_verb
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {path.parent}: {error.strerror}") from error
    write_json(path, without_folders(content))


def study_folder(results: Path, study: str, system: str) -> Path:
    """Where the archive holds the runs of a study's system: neither those of its recipe nor those of another study."""
    return results / RUNS / f"{study}-{system}"


def _read_json(path: Path, fix: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read ({error}); {fix}") from error
    return content if isinstance(content, dict) else {}


def read_rows(path: Path) -> list[dict[str, float]]:
    """A run's metrics.csv or timings.csv: a row per epoch, gaps left out; raises OutputError if it is unreadable."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from error
