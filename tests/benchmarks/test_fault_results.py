"""What the README says of the fault matrix is what the benchmark `fault_matrix` recorded."""

import json
from pathlib import Path

import pytest
from faults.matrix import ROWS

PROJECT = Path(__file__).parents[2]
RECORDED = PROJECT / "results" / "faults.json"


@pytest.mark.skipif(not RECORDED.exists(), reason="not recorded yet: python -m benchmarks fault_matrix")
def test_every_row_was_run_and_held() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    rows = [row["row"] for row in recorded["rows"]]
    assert rows == list(ROWS)[: len(rows)]  # the rows after these are tested, and younger than the recorded run
    assert len(rows) >= 32
    assert all(row["passed"] > 0 and not row.get("failed") for row in recorded["rows"])
    assert recorded["dirty"] is False
    counts, guard = recorded["counts"], recorded["guard"]
    assert guard["guard_us"]["median"] <= 50
    document = " ".join((PROJECT / "docs" / "faults.md").read_text(encoding="utf-8").split())
    assert (
        f"{counts['kills']} kills, {counts['save_kills']} kills in a save, {counts['fuzz']:,} invalid inputs"
        in document
    )
    assert f"infinity costs {guard['guard_us']['median']:.0f} µs per step" in document
