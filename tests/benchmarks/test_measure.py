"""Order, ratios and rates, on clocks that are made up."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch

from benchmarks import matrix, measure, step
from benchmarks.data_path import rate
from benchmarks.workbench import Workbench


def test_rounds_are_interleaved_and_each_contestant_comes_first_in_turn() -> None:
    order: list[str] = []
    ticks = count()

    def contestant(name: str) -> Callable[[], float]:
        def measured() -> float:
            order.append(name)
            return float(next(ticks))

        return measured

    contestants = {name: contestant(name) for name in "ABC"}
    values = measure.interleave(contestants, 4)
    assert "".join(order) == "ABCBCACABABC"
    assert values == {"A": [0, 5, 7, 9], "B": [1, 3, 8, 10], "C": [2, 4, 6, 11]}


def test_a_ratio_is_taken_within_each_round() -> None:
    # The second round was ten times slower for both: the ratio of the medians would be 30 / 20.
    values = {"ours": [100.0, 3.0, 30.0], "other": [50.0, 2.0, 20.0], "third": [100.0, 1.0, 60.0]}
    ratios = measure.ratios(values, "ours")
    assert ratios["other"] == {"median": 1.5, "min": 1.5, "max": 2.0, "values": [2.0, 1.5, 1.5]}
    assert list(ratios) == ["other", "third"]
    assert measure.difference([5.0, 7.0], [1.0, 2.0])["values"] == [4.0, 5.0]
    with pytest.raises(ValueError, match="shorter"):
        measure.ratio([1.0, 2.0], [1.0])


def test_a_summary_keeps_its_values_in_their_order() -> None:
    assert measure.summary([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "values": [3.0, 1.0, 2.0]}


def test_a_matrix_rate_counts_the_operations_of_its_shape(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Timer:
        def __init__(self, statement: str, globals: dict[str, Any], num_threads: int) -> None:
            exec(statement, globals)  # the factors are of the shape
            self.median = 0.25

        def blocked_autorange(self, min_run_time: float) -> "Timer":
            return self

    monkeypatch.setattr(matrix, "Timer", Timer)
    monkeypatch.setattr(matrix, "SHAPES", ((10, 20, 30), (1, 2, 3)))
    for rates in matrix.measure(bench).values():
        assert rates["flop_per_s"] == 2 * 10 * 20 * 30 / 0.25
        assert rates["shapes"]["1x2x3"]["values"] == [2 * 1 * 2 * 3 / 0.25] * bench.effort.rounds


def test_a_data_rate_counts_images_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    batches = [(torch.empty(0), torch.empty(size)) for size in (10, 10, 10, 10, 4)]
    # Read at the start, after each batch, and at the end.
    assert rate(batches, 3.0, lambda: None) == 30 / 4
    assert rate(batches, 99.0, lambda: None) == 44 / 6


def test_the_shares_of_a_profile() -> None:
    times = {"aten::mkldnn_convolution": 30.0, "aten::convolution_backward": 40.0, "aten::mm": 10.0, "aten::add": 20.0}
    found = step.shares(times)
    assert found["products"] == pytest.approx(0.8)
    assert list(found["operators"]) == [
        "aten::convolution_backward", "aten::mkldnn_convolution", "aten::add", "aten::mm", "the rest",
    ]  # fmt: skip
    assert sum(found["operators"].values()) == pytest.approx(1)
