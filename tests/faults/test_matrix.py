"""Every row of the matrix has its tests, and they are there."""

import re
from pathlib import Path

from faults.matrix import ROWS

TESTS = Path(__file__).parents[1]


def test_every_row_has_a_test_that_exists() -> None:
    assert set(ROWS) == set(range(1, 43))
    for row, (_, _, tests) in ROWS.items():
        assert tests, row
        for name in tests:
            file, _, test = name.partition("::")
            assert re.search(rf"^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE), name


def test_every_test_of_the_matrix_is_in_a_row() -> None:
    named = {name for _, _, tests in ROWS.values() for name in tests}
    for path in TESTS.glob("faults/test_*.py"):
        for test in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            if path.name != Path(__file__).name and (path.stem, test) != ("test_policy", "test_the_same_is_not_told"):
                assert f"faults/{path.name}::{test}" in named
