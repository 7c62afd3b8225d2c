"""benchmarks/precision.py: the paired comparison, on figures done by hand."""

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_scripts import load

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def precision() -> ModuleType:
    return load("precision")


def pairs(differences: list[float]) -> list[dict[str, Any]]:
    def run(seed: int, accuracy: float) -> dict[str, Any]:
        return {"seed": seed, "metrics": {"last_epoch": {"val_accuracy": accuracy}}}

    return [
        {"bf16-mixed": run(seed, 0.7 + difference), "32-true": run(seed, 0.7)}
        for seed, difference in enumerate(differences)
    ]


def test_the_interval_is_the_paired_t_interval(precision: ModuleType) -> None:
    found = precision.compare(pairs([0.01, -0.01, 0.02, 0.0, 0.01, -0.01, 0.02, 0.0]))
    deviation = math.sqrt((2 * 0.005**2 + 2 * 0.015**2 + 2 * 0.015**2 + 2 * 0.005**2) / 7)
    half = 2.3646242510102993 * deviation / math.sqrt(8)  # the 97.5% quantile of t with 7 degrees of freedom
    assert found["difference"]["mean"] == pytest.approx(0.005)
    assert found["difference"]["low"] == pytest.approx(0.005 - half)
    assert found["difference"]["high"] == pytest.approx(0.005 + half)
    assert found["mean_val_accuracy"] == {"bf16-mixed": pytest.approx(0.705), "32-true": pytest.approx(0.7)}


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(0.0, "within one point"), (0.008, "not shown"), (-0.008, "not shown"), (0.05, "not shown")],
)
def test_no_more_is_said_than_the_interval_bears(precision: ModuleType, shift: float, verdict: str) -> None:
    assert precision.compare(pairs([shift + step for step in (0.004, -0.004) * 4]))["verdict"] == verdict


def test_the_recorded_comparison_follows_from_its_own_pairs(precision: ModuleType) -> None:
    recorded = json.loads((PROJECT / "results" / "precision.json").read_text())
    assert recorded["dirty"] is False
    again = precision.compare(
        [
            {
                name: {"seed": pair["seed"], "metrics": {"last_epoch": {"val_accuracy": pair[name]}}}
                for name in precision.PRECISIONS
            }
            for pair in recorded["pairs"]
        ]
    )
    assert (again["n"], again["verdict"]) == (recorded["n"], recorded["verdict"])
    for name in ("mean_val_accuracy", "difference"):
        assert again[name] == pytest.approx(recorded[name], abs=1e-9)
