"""What the figures say of comparisons and claims, in plain words and never more than they bear."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.spec import Check, Claim

LEVEL = 0.95


@dataclass(frozen=True)
class Summary:
    """Values of one system's runs. One run has no spread, and so neither deviation nor interval."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A difference with its interval; `p` is two-sided. None where one run, or no spread at all, allows neither."""

    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def summarise(values: Sequence[float]) -> Summary:
    """n, mean, standard deviation and the 95% interval of the mean (Student's t).

    Args:
        values: one per run, at least one.
    """
    n, mean = len(values), fmean(values)
    if n < 2:
        return Summary(n, mean, None, None, None)
    sd = stdev(values)
    half = _quantile(n - 1) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The mean of `first` minus that of `second`, by Welch: the two may spread differently.

    Each needs two runs for an interval; where neither spreads at all, there is nothing to judge by.
    """
    difference = fmean(first) - fmean(second)
    if min(len(first), len(second)) < 2:
        return Difference(difference)
    parts = [stdev(values) ** 2 / len(values) for values in (first, second)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Difference(difference)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True)
    )
    half = _quantile(freedom) * error
    return Difference(difference, difference - half, difference + half, _two_sided(difference / error, freedom))


def against(values: Sequence[float], stated: float, within: float = 0.0) -> Difference:
    """The mean minus a stated number, as a one-sample t test.

    Args:
        values: one per run.
        stated: the number.
        within: how far from it a value still counts as it, since it was rounded; `p` is that of the nearest such value.
    """
    summary = summarise(values)
    difference = summary.mean - stated
    if not summary.sd:
        return Difference(difference)
    assert summary.low is not None
    assert summary.high is not None
    error = summary.sd / math.sqrt(summary.n)
    distance = max(abs(difference) - within, 0.0)
    return Difference(
        difference, summary.low - stated, summary.high - stated, _two_sided(distance / error, summary.n - 1)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the order of `p_values`, at most 1.

    Where all of them are compared with 0.05, the chance of even one false finding among them stays below 0.05.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def _quantile(freedom: float) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def _two_sided(t: float, freedom: float) -> float:
    return float(2 * stats.t.sf(abs(t), freedom))


Values = Mapping[str, Mapping[str, Sequence[float]]]  # system, metric: one value per finished run
Curves = Mapping[str, Sequence[Mapping[int, Mapping[str, float]]]]  # system: per run, the rows by epoch
Machines = Mapping[str, Collection[str]]
Entry = dict[str, Any]

SUPPORTED, CONTRADICTED, OPEN, NOT_CONTRADICTED = "supported", "contradicted", "not decided", "not contradicted"


def judge(
    claims: Sequence[Claim],
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str],
    values: Values,
    curves: Curves,
    machines: Machines,
) -> tuple[list[Entry], list[Entry]]:
    """Judges the claims, and the comparisons that no claim makes.

    Holm's correction runs over all tests of the claims. Comparisons beside them are corrected among themselves, so that
    looking at more of them does not weaken the claims; one that a claim makes has the claim's verdict in both tables.

    Args:
        claims: to check.
        pairs: (system, the one it is compared with).
        metrics: what the comparisons compare.
        values: of the finished runs.
        curves: of the finished runs.
        machines: by system, all that its speed depended on; speeds are compared only where it was one and the same.

    Returns:
        The comparisons (one entry per pair and metric) and the claims (with an entry per check).
    """
    tests: dict[Check, Difference | None] = {}
    for check in [check for claim in claims for check in claim.checks]:
        tests[check] = _test(check, values, machines)
    adjusted = _adjusted(tests)
    others = {
        check: _test(check, values, machines)
        for pair in pairs
        for check in [_comparison(pair, metric) for metric in metrics]
        if _claimed(check, tests) is None
    }
    adjusted |= _adjusted(others)
    comparisons = []
    for pair in pairs:
        for metric in metrics:
            check = _comparison(pair, metric)
            source = _claimed(check, tests) or check
            test = tests[source] if source in tests else others[source]
            p = adjusted.get(source)
            if test is not None and source.systems != check.systems:
                test = _mirrored(test)
            comparisons.append(_entry(check, test, p, values, machines))
    judged = [
        {
            "says": claim.says,
            "remark": claim.remark,
            "checks": [
                _curve_entry(check, curves)
                if check.kind == "curve"
                else _entry(check, tests[check], adjusted.get(check), values, machines)
                for check in claim.checks
            ],
        }
        for claim in claims
    ]
    return comparisons, judged


def _comparison(pair: tuple[str, str], metric: str) -> Check:
    return Check(pair, metric, "")


def _claimed(check: Check, tests: Mapping[Check, Difference | None]) -> Check | None:
    """The claims' check of the same two systems and the same metric, in either order."""
    for other in tests:
        if set(other.systems) == set(check.systems) and other.metric == check.metric and other.kind == "difference":
            return other
    return None


def _mirrored(test: Difference) -> Difference:
    low, high = (None, None) if test.low is None or test.high is None else (-test.high, -test.low)
    return Difference(-test.difference, low, high, test.p)


def _test(check: Check, values: Values, machines: Machines) -> Difference | None:
    samples = [values[system].get(check.metric, []) for system in check.systems]
    if check.kind == "curve" or not all(samples):
        return None
    if check.kind == "number":
        assert check.value is not None
        return against(samples[0], check.value, check.within)
    test = welch(*samples)
    if METRICS[check.metric].depends_on_machine and not _is_one_machine(check, machines):
        return Difference(test.difference)
    return test


def _is_one_machine(check: Check, machines: Machines) -> bool:
    return len({machine for system in check.systems for machine in machines[system]}) < 2


def _adjusted(tests: Mapping[Check, Difference | None]) -> dict[Check, float]:
    """Holm over the different questions among `tests`: one that is asked twice, or from both sides, counts once."""
    questions: dict[Any, float] = {}
    for check, test in tests.items():
        if test is not None and test.p is not None:
            questions[_question(check)] = test.p
    corrected = dict(zip(questions, holm(list(questions.values())), strict=True))
    return {check: corrected[_question(check)] for check in tests if _question(check) in corrected}


def _question(check: Check) -> Any:
    return frozenset(check.systems), check.metric, check.value, check.within


def _entry(check: Check, test: Difference | None, p: float | None, values: Values, machines: Machines) -> Entry:
    samples = [values[system].get(check.metric, []) for system in check.systems]
    counts, means = [len(sample) for sample in samples], [fmean(sample) if sample else None for sample in samples]
    verdict, outcome = _words(check, test, p, counts, machines)
    return {
        **asdict(check),
        "systems": list(check.systems),
        "kind": check.kind,
        "n": counts,
        "means": means,
        "difference": test.difference if test else None,
        "low": test.low if test else None,
        "high": test.high if test else None,
        "p": test.p if test else None,
        "p_holm": p,
        "verdict": verdict,
        "outcome": outcome,
    }


def _words(
    check: Check, test: Difference | None, p: float | None, counts: list[int], machines: Machines
) -> tuple[str, str]:
    """The verdict, and what it means for the expectation (empty where there is none)."""
    n = " and ".join(map(str, counts if len(set(counts)) > 1 else counts[:1]))
    if test is None:
        return "no run has finished" if not any(counts) else f"no verdict with n = {n}", OPEN
    if test.p is None or p is None:
        if min(counts) < 2:
            return f"no verdict with n = {n}", OPEN
        if METRICS[check.metric].depends_on_machine and not _is_one_machine(check, machines):
            return "no verdict: not the same machine and threads", OPEN
        return f"no verdict: the runs do not differ among themselves (n = {n})", OPEN
    is_shown, is_above = p < 1 - LEVEL, test.difference > 0
    if check.kind == "number":
        return _number_words(check, test, is_shown, is_above, n)
    verdict = ("higher" if is_above else "lower") if is_shown else f"no difference shown with n = {n}"
    if not check.expect:
        return verdict, ""
    if check.expect.startswith("not "):
        wrong = check.expect.removeprefix("not ")
        return verdict, NOT_CONTRADICTED if not is_shown else CONTRADICTED if verdict == wrong else SUPPORTED
    return verdict, OPEN if not is_shown else SUPPORTED if verdict == check.expect else CONTRADICTED


def _number_words(check: Check, test: Difference, is_shown: bool, is_above: bool, n: str) -> tuple[str, str]:
    assert test.low is not None
    assert test.high is not None
    if is_shown:
        side = "above" if is_above else "below"
        agrees = {"equal": False, "at least": is_above, "at most": not is_above}[check.expect]
        return f"{side} the stated number", SUPPORTED if agrees else CONTRADICTED
    is_inside = test.low <= check.within and test.high >= -check.within
    place = "inside" if is_inside else "outside"
    verdict = f"no difference from the stated number shown with n = {n}; it is {place} the 95% interval"
    return verdict, NOT_CONTRADICTED if check.expect == "equal" and is_inside else OPEN


def _curve_entry(check: Check, curves: Curves) -> Entry:
    """A rise in any run disproves that the curve always falls; that one run has none proves nothing about others."""
    (system,) = check.systems
    runs = [
        [rows[epoch][check.metric] for epoch in sorted(rows) if check.metric in rows[epoch]] for rows in curves[system]
    ]
    runs = [points for points in runs if len(points) > 1]
    rises = [sum(after >= before for before, after in pairwise(points)) for points in runs]
    steps, n = sum(len(points) - 1 for points in runs), len(runs)
    if not runs:
        verdict, outcome = "no run has two epochs", OPEN
    elif any(rises):
        share = f"{sum(rises)} of {steps} steps from one epoch to the next do not fall"
        verdict, outcome = f"{share}, n = {n}", CONTRADICTED
    elif n == 1:
        verdict, outcome = f"falls at all {steps} steps of the one run; no verdict with n = 1", OPEN
    else:
        verdict, outcome = f"falls with every epoch in all {n} runs", SUPPORTED
    return {**asdict(check), "systems": [system], "kind": "curve", "n": [n], "verdict": verdict, "outcome": outcome}
