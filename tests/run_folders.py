"""What tests ask of the run folders that a command has left."""

import json
import time
from pathlib import Path
from typing import Any


def only_run(logs: Path | str = "lightning_logs") -> Path:
    (folder,) = Path(logs).glob("*/*")
    return folder


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def wait_for_the_next_second() -> None:
    """TensorBoard reads a run's files in the order of their names, which hold the second they were made in."""
    time.sleep(1 - time.time() % 1)
