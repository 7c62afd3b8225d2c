"""The fault matrix at its full counts, and what the guard costs.

    python -m benchmarks fault_matrix

runs `tests/faults`, and what the matrix names elsewhere, with 20 kills, 50 kills in a save, 500 invalid inputs and
3,000 flipped bits instead of the tests' small samples, after the benchmark `guard`, and writes `results/faults.json`:
every case with its outcome, and for each row of the matrix how many passed, failed or were left out. The file is
written after each case; the same command goes on where it was cut, with the cases of this commit that have not passed
yet.
"""

import argparse
import json
import os
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import guard
from benchmarks.measure import conditions
from benchmarks.recipes import require_commit
from cifar_lightning.runs.atomic import write_json

COUNTS = {"FAULTS_KILLS": 20, "FAULTS_SAVE_KILLS": 50, "FAULTS_FUZZ": 500, "FAULTS_FLIPS": 3000}
TESTS = Path(__file__).parents[1] / "tests"
ROWS = runpy.run_path(str(TESTS / "faults" / "matrix.py"))["ROWS"]


class Recorder:
    """A pytest plugin that leaves out what has passed, and writes each outcome as it comes.

    Args:
        path: of the JSON.
        recorded: its content.
    """

    def __init__(self, path: Path, recorded: dict[str, Any]) -> None:
        self.path = path
        self.recorded = recorded

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Goes on where an earlier call was cut."""
        done = [item for item in items if self.recorded["cases"].get(_name(item.nodeid)) == "passed"]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item not in done]

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A case that ran is judged by its call; one that did not, by what kept it from it."""
        if report.when == "call" or report.outcome != "passed":
            self.recorded["cases"][_name(report.nodeid)] = report.outcome
            write(self.path, self.recorded)


def write(path: Path, recorded: dict[str, Any]) -> None:
    """Writes the JSON, with the rows of the matrix counted from the cases."""
    recorded["rows"] = []
    for row, (fault, required, tests) in ROWS.items():
        outcomes = (outcome for case, outcome in recorded["cases"].items() if case.partition("[")[0] in tests)
        recorded["rows"].append({"row": row, "fault": fault, "required": required, **Counter(outcomes)})
    write_json(path, recorded)


def _name(nodeid: str) -> str:
    return nodeid.partition("tests/")[2]


def main(argv: list[str]) -> int:
    """Runs, writes and says what did not pass."""
    parser = argparse.ArgumentParser("python -m benchmarks fault_matrix", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/faults.json"))
    parser.add_argument("-k", default="", help="pytest's: these tests alone, and not the guard's cost")
    options = parser.parse_args(argv)
    output = options.output.resolve()  # the tests go to folders of their own
    os.environ.update({name: str(count) for name, count in COUNTS.items()})
    require_commit()
    recorded: dict[str, Any] = {
        **conditions("cpu"),
        "counts": {name.removeprefix("FAULTS_").lower(): count for name, count in COUNTS.items()},
        "cases": {},
    }
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if before["commit"] == recorded["commit"] and before["counts"] == recorded["counts"]:
            recorded = before
    if not options.k:
        recorded["guard"] = guard.measure()
    elsewhere = {name for _, _, tests in ROWS.values() for name in tests if not name.startswith("faults/")}
    exit_code = pytest.main(
        [
            "-q",
            "-p",
            "no:cacheprovider",
            str(TESTS / "faults"),
            *(f"{TESTS}/{name}" for name in sorted(elsewhere)),
            "-k",
            options.k,
        ],
        plugins=[Recorder(output, recorded)],
    )
    write(output, recorded)
    # With -k most rows have not been run, and need not have been.
    failed = [str(row["row"]) for row in recorded["rows"] if row.get("failed") or not (row.get("passed") or options.k)]
    print(f"rows that failed or were not run: {', '.join(failed) or 'none'}; {options.output}")
    return int(bool(failed) or exit_code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED))
