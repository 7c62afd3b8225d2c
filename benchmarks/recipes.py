"""What the benchmarks that train recipes have in common."""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from cifar_lightning.errors import ConfigError
from cifar_lightning.runs import environment
from cifar_lightning.runs.record import RECORD, RunRecord, read_record


def require_commit() -> None:
    """Raises ConfigError where the code is in no commit: nobody could make the figures again."""
    if environment.commit()["dirty"] is not False:
        raise ConfigError(
            "this code is in no commit (or files lie beside it that are in none): commit, then start again"
        )


def fit(config: Path, seed: int, logs: Path, *flags: str) -> Path:
    """Trains as a user would, in a process of its own; returns the run's folder, the newest in `logs`."""
    places = [f"--seed_everything={seed}", f"--trainer.default_root_dir={logs}"]
    command = [sys.executable, "-m", "cifar_lightning", "fit", "--config", str(config), *flags, *places]
    subprocess.run(command, check=True)
    return max(logs.glob("*/*"))  # a run's folder is called after its start


def interval(values: Sequence[float]) -> dict[str, float]:
    """`mean`, and `low` and `high` of its 95% interval (Student's t)."""
    mean = statistics.fmean(values)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def finished_run(logs: Path) -> RunRecord | None:
    """The record of the finished run under `logs`, which is one run's own; None where there is none."""
    records = [read_record(path.parent) for path in logs.glob(f"*/*/{RECORD}")]
    return next((record for record in records if record.status == "finished"), None)
