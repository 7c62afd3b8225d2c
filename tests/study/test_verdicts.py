"""Verdicts: what the figures bear, and no more."""

from typing import Any

import pytest

from cifar_lightning.study.spec import Check, Claim
from cifar_lightning.study.stats import holm, judge, welch

VALUES = {
    "good": {"test_accuracy": [0.780, 0.782, 0.784], "images_per_second": [100.0, 101.0, 102.0]},
    "bad": {"test_accuracy": [0.700, 0.702, 0.704], "images_per_second": [200.0, 201.0, 202.0]},
    "near": {"test_accuracy": [0.778, 0.783, 0.784]},
    "one": {"test_accuracy": [0.6]},
    "same": {"test_accuracy": [0.5, 0.5]},
    "none": {},
}
HERE = {system: {"a CPU"} for system in VALUES}


def verdict_of(check: Check, **machines: set[str]) -> tuple[str, str]:
    _, (claim,) = judge([Claim("it is so", (check,))], [], [], VALUES, {}, HERE | machines)
    (entry,) = claim["checks"]
    return entry["verdict"], entry["outcome"]


@pytest.mark.parametrize(
    ("systems", "expect", "verdict", "outcome"),
    [
        (("good", "bad"), "higher", "higher", "supported"),
        (("good", "bad"), "lower", "higher", "contradicted"),
        (("bad", "good"), "lower", "lower", "supported"),
        (("good", "bad"), "not lower", "higher", "supported"),
        (("good", "bad"), "not higher", "higher", "contradicted"),
        (
            ("good", "near"),
            "higher",
            "no difference shown with n = 3, which could have shown one of about 0.66 points",
            "not decided",
        ),
        (
            ("good", "near"),
            "not higher",
            "no difference shown with n = 3, which could have shown one of about 0.66 points",
            "not contradicted",
        ),
        (("good", "one"), "higher", "no verdict with n = 3 and 1", "not decided"),
        (("one", "one2"), "higher", "no verdict with n = 1", "not decided"),
        (("good", "none"), "higher", "no verdict with n = 3 and 0", "not decided"),
        (("none", "none2"), "higher", "no run has finished", "not decided"),
        (("same", "same2"), "higher", "no verdict: the runs do not differ among themselves (n = 2)", "not decided"),
    ],
)
def test_differences(systems: tuple[str, str], expect: str, verdict: str, outcome: str) -> None:
    values = VALUES | {"one2": {"test_accuracy": [0.9]}, "none2": {}, "same2": {"test_accuracy": [0.6, 0.6]}}
    claim = Claim("it is so", (Check("test_accuracy", expect, compare=systems),))
    _, (judged,) = judge([claim], [], [], values, {}, dict.fromkeys(values, "a CPU"))
    (entry,) = judged["checks"]
    assert (entry["verdict"], entry["outcome"]) == (verdict, outcome)


@pytest.mark.parametrize(
    ("system", "expect", "value", "within", "verdict", "outcome"),
    [
        ("good", "equal", 0.783, 0, "no difference from the stated number shown with n = 3, which could have shown one "
         "of about 0.50 points; the number is inside the 95% interval", "not contradicted"),
        ("good", "equal", 0.63, 0.005, "above the stated number", "contradicted"),
        ("good", "at least", 0.7, 0, "above the stated number", "supported"),
        ("good", "at most", 0.7, 0, "above the stated number", "contradicted"),
        ("good", "at least", 0.783, 0.001, "no difference from the stated number shown with n = 3, which could have "
         "shown one of about 0.60 points; the number is inside the 95% interval", "not decided"),
        ("bad", "at least", 0.9, 0, "below the stated number", "contradicted"),
        ("one", "equal", 0.63, 0, "no verdict with n = 1", "not decided"),
    ],
)  # fmt: skip
def test_stated_numbers(system: str, expect: str, value: float, within: float, verdict: str, outcome: str) -> None:
    assert verdict_of(Check("test_accuracy", expect, system=system, value=value, within=within)) == (verdict, outcome)


def test_speeds_of_different_machines_are_not_compared() -> None:
    check = Check("images_per_second", "higher", compare=("bad", "good"))
    assert verdict_of(check) == ("higher", "supported")
    assert verdict_of(check, bad={"a GPU"}) == ("no verdict: not the same machine and threads", "not decided")
    mixed = {"a CPU", "a GPU"}
    assert verdict_of(check, bad=mixed, good=mixed) == ("no verdict: not the same machine and threads", "not decided")


@pytest.mark.parametrize(
    ("runs", "verdict", "outcome"),
    [
        ([[3.0, 2.0, 1.0], [3.0, 2.5, 2.0]], "falls with every epoch in all 2 runs", "supported"),
        ([[3.0, 2.0, 1.0]], "falls at all 2 steps of the one run; no verdict with n = 1", "not decided"),
        ([[3.0, 2.0, 2.0]], "1 of 2 steps from one epoch to the next do not fall, n = 1", "contradicted"),
        ([[3.0, 2.0], [1.0, 2.0]], "1 of 2 steps from one epoch to the next do not fall, n = 2", "contradicted"),
        ([[3.0]], "no run has two epochs", "not decided"),
        ([], "no run has two epochs", "not decided"),
    ],
)
def test_a_curve_that_falls(runs: list[list[float]], verdict: str, outcome: str) -> None:
    rows = [[{"train_loss": loss} for loss in run] for run in runs]
    claim = Claim("it falls", (Check("train_loss", "falls", system="good"),))
    _, (judged,) = judge([claim], [], [], VALUES, {"good": rows}, HERE)
    assert (judged["checks"][0]["verdict"], judged["checks"][0]["outcome"]) == (verdict, outcome)


def by_pair(comparisons: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(entry["systems"]): entry for entry in comparisons}


def test_holm_runs_over_the_claims_and_each_question_counts_once() -> None:
    accuracy = "test_accuracy"
    claims = [
        Claim("a", (Check(accuracy, "higher", ("good", "bad")), Check(accuracy, "lower", ("bad", "good")))),
        Claim("b", (Check(accuracy, "higher", ("good", "near")), Check(accuracy, "higher", ("good", "one")))),
    ]
    comparisons, judged = judge(claims, [("bad", "good"), ("bad", "near")], [accuracy], VALUES, {}, HERE)
    raw = [welch(VALUES["good"][accuracy], VALUES[other][accuracy]).p for other in ("bad", "near")]
    first, second = holm([p for p in raw if p is not None])  # two questions: one is asked twice, one has n = 1
    assert [check["p_holm"] for claim in judged for check in claim["checks"]] == [first, first, second, None]
    # A comparison that a claim makes has the claim's verdict, seen from its own side; another is by itself.
    pairs = by_pair(comparisons)
    assert pairs["bad", "good"]["p_holm"] == first
    assert pairs["bad", "good"]["verdict"] == "lower"
    assert pairs["bad", "good"]["difference"] == pytest.approx(-0.08)
    assert pairs["bad", "good"]["low"] < -0.08 < pairs["bad", "good"]["high"] < 0
    alone = welch(VALUES["bad"][accuracy], VALUES["near"][accuracy]).p
    assert pairs["bad", "near"]["p_holm"] == alone


def test_the_correction_can_take_a_verdict_back() -> None:
    values = {"a": {"test_accuracy": [0.70, 0.71, 0.72]}, "b": {"test_accuracy": [0.73, 0.735, 0.74]}}
    check = Check("test_accuracy", "higher", compare=("b", "a"))
    other = Check("test_accuracy", "equal", system="a", value=0.70)
    machines = {system: {"a CPU"} for system in values}
    _, (alone,) = judge([Claim("x", (check,))], [], [], values, {}, machines)
    assert alone["checks"][0]["verdict"] == "higher"
    _, (both,) = judge([Claim("x", (check, other))], [], [], values, {}, machines)
    assert both["checks"][0]["p"] < 0.05 < both["checks"][0]["p_holm"]
    assert both["checks"][0]["verdict"].startswith("no difference shown with n = 3")


def test_the_difference_that_could_have_been_shown_is_at_the_edge_of_a_verdict() -> None:
    runs = {"a": [0.70, 0.71, 0.72], "b": [0.705, 0.71, 0.73], "far": [0.80, 0.81, 0.82]}
    checks = tuple(Check("test_accuracy", "higher", compare=pair) for pair in [("b", "a"), ("far", "a"), ("far", "b")])
    machines = {system: {"a CPU"} for system in runs}

    def judged(b: list[float]) -> dict[str, Any]:
        values = {name: {"test_accuracy": sample} for name, sample in (runs | {"b": b}).items()}
        _, (claim,) = judge([Claim("x", checks)], [], [], values, {}, machines)
        assert [check["outcome"] for check in claim["checks"][1:]] == ["supported", "supported"]
        assert [check["detectable"] for check in claim["checks"][1:]] == [None, None]
        return claim["checks"][0]

    first = judged(runs["b"])
    missing = first["detectable"] - first["difference"]
    assert missing > 0
    for factor, verdict in ((0.999, "no difference shown"), (1.001, "higher")):
        assert judged([value + factor * missing for value in runs["b"]])["verdict"].startswith(verdict)
