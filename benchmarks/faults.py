"""The fault matrix at its full counts, and what the guard costs.

    python benchmarks/faults.py

runs `tests/faults` with 20 kills, 50 kills in a save, 2,000 invalid inputs and 3,000 flipped bits instead of the tests'
small samples, then `benchmarks/guard.py`, and writes `results/faults.json`: for each row of the matrix how many cases
passed, failed or were left out.
"""

import argparse
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

COUNTS = {"FAULTS_KILLS": 20, "FAULTS_SAVE_KILLS": 50, "FAULTS_FUZZ": 2000, "FAULTS_FLIPS": 3000}
TESTS = Path(__file__).parents[1] / "tests"


class Tally:
    """A pytest plugin that counts outcomes by test."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test that ran is counted by its call; one that did not, by what kept it from it."""
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("[")[0].partition("tests/")[2]
            self.outcomes.setdefault(name, Counter())[report.outcome] += 1


def rows(outcomes: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    """Each row of the matrix with the outcomes of its tests; those outside of `tests/faults` are in the whole suite."""
    from faults.matrix import ROWS

    return [
        {
            "row": row,
            "fault": fault,
            "required": required,
            "tests": {test: dict(outcomes[test]) for test in tests if test in outcomes},
        }
        for row, (fault, required, tests) in ROWS.items()
    ]


def main() -> int:
    """Runs, writes and says what did not pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/faults.json"))
    options = parser.parse_args()
    os.environ.update({name: str(count) for name, count in COUNTS.items()})
    sys.path.insert(0, str(TESTS))
    start, tally = environment.commit(), Tally()
    began_at = time.monotonic()
    code = pytest.main(["-q", "-p", "no:cacheprovider", str(TESTS / "faults")], plugins=[tally])
    result = {
        "command": "python benchmarks/faults.py",
        **start,
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "counts": {name.removeprefix("FAULTS_").lower(): count for name, count in COUNTS.items()},
        "took_s": round(time.monotonic() - began_at),
        "passed": sum(outcome["passed"] for outcome in tally.outcomes.values()),
        "failed": sum(outcome["failed"] for outcome in tally.outcomes.values()),
        "skipped": sum(outcome["skipped"] for outcome in tally.outcomes.values()),
        "rows": rows(tally.outcomes),
        "guard": guard.measure(),
    }
    write_json(options.output, result)
    print(f"{result['passed']} passed, {result['failed']} failed, {result['skipped']} left out: {options.output}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
