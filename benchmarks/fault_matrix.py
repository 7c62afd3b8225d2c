"""The fault matrix at its full counts, and what the guard costs.

    python benchmarks/fault_matrix.py

runs `tests/faults` with 20 kills, 50 kills in a save, 1,000 invalid inputs and 3,000 flipped bits instead of the tests'
small samples, then `benchmarks/guard.py`, and writes `results/faults.json`: for each row of the matrix how many cases
passed, failed or were left out. `--part NAME` runs one part alone and puts it beside the others in that file.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import guard
import pytest

from cifar_lightning import environment
from cifar_lightning.files import write_json

COUNTS = {"FAULTS_KILLS": 20, "FAULTS_SAVE_KILLS": 50, "FAULTS_FUZZ": 1000, "FAULTS_FLIPS": 3000}
TESTS = Path(__file__).parents[1] / "tests"
# pytest's -k, by part; together they are all of tests/faults, each once.
PARTS = {
    "kills": "test_kills and not in_a_save",
    "kills in a save": "test_kills and in_a_save",
    "flags": "test_wrong_flags",
    "files": "test_input and not test_wrong_flags",
    "data": "test_data",
    "the rest": "not test_kills and not test_input and not test_data",
}


class Tally:
    """A pytest plugin that counts outcomes by test."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test that ran is counted by its call; one that did not, by what kept it from it."""
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("[")[0].partition("tests/")[2]
            self.outcomes.setdefault(name, Counter())[report.outcome] += 1


def run(part: str) -> dict[str, Any]:
    """One part: where and when it ran, and its tests' outcomes."""
    tally, began_at = Tally(), time.monotonic()
    about = {**environment.commit(), "versions": environment.versions(), "hardware": environment.hardware()}
    if part == "guard":
        return {**about, **guard.measure()}
    pytest.main(["-q", "-p", "no:cacheprovider", str(TESTS / "faults"), "-k", PARTS[part]], plugins=[tally])
    return {
        **about,
        "took_s": round(time.monotonic() - began_at),
        "tests": {name: dict(outcomes) for name, outcomes in tally.outcomes.items()},
    }


def rows(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Each row of the matrix with the outcomes of its tests; those outside of `tests/faults` are in the whole suite."""
    from faults.matrix import ROWS

    outcomes = {name: found for part in parts.values() for name, found in part.get("tests", {}).items()}
    table = []
    for row, (fault, required, tests) in ROWS.items():
        total: Counter[str] = Counter()
        for test in tests:
            total.update(outcomes.get(test, {}))
        table.append({"row": row, "fault": fault, "required": required, **total})
    return table


def main() -> int:
    """Runs, writes and says what did not pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/faults.json"))
    parser.add_argument("--part", choices=[*PARTS, "guard"], help="this one alone (default: all)")
    options = parser.parse_args()
    os.environ.update({name: str(count) for name, count in COUNTS.items()})
    sys.path.insert(0, str(TESTS))
    before = json.loads(options.output.read_text(encoding="utf-8")) if options.part and options.output.exists() else {}
    parts = before.get("parts", {})
    for part in [options.part] if options.part else [*PARTS, "guard"]:
        parts[part] = run(part)
    table = rows(parts)
    counts = {name.removeprefix("FAULTS_").lower(): count for name, count in COUNTS.items()}
    write_json(
        options.output,
        {"command": "python benchmarks/fault_matrix.py", "counts": counts, "rows": table, "parts": parts},
    )
    failed = [str(row["row"]) for row in table if row.get("failed")]
    print(f"rows with failures: {', '.join(failed) or 'none'}; {options.output}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
