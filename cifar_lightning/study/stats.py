"""The statistics of a study: intervals, tests, and verdicts that say no more than the runs show."""

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.spec import Check, Claim

LEVEL = 0.95
Values = Mapping[str, Mapping[str, Sequence[float]]]  # system, metric: one value per finished run
Curves = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]  # system: per run, a row per epoch
Machines = Mapping[str, Collection[str]]  # system: all that its speed depended on
Corrected = tuple[
    float, float
]  # p after Holm's correction, and the alpha below which a lone p would have shown something
Entry = dict[str, Any]

SUPPORTED, CONTRADICTED, OPEN, NOT_CONTRADICTED = "supported", "contradicted", "not decided", "not contradicted"


@dataclass(frozen=True)
class Summary:
    """Values of one system's runs. A single run has neither deviation nor interval."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A difference with its 95% interval and two-sided p; both are None where a single run or no spread allows none."""

    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    df: float | None = None  # degrees of freedom of the t test

    def detectable(self, alpha: float) -> float:
        """The smallest measured difference that would have had a p below `alpha`, had the runs spread as they did.

        It is the half-width of the interval at the level 1 - alpha. Of studies like this one, about half would show a
        true difference of this size: half of them measure more than it, half less.
        """
        assert self.low is not None
        assert self.high is not None
        ratio = stats.t.isf(alpha / 2, self.df) / stats.t.isf((1 - LEVEL) / 2, self.df)
        return float(ratio) * (self.high - self.low) / 2


def summarise(values: Sequence[float]) -> Summary:
    """n, mean, standard deviation and the 95% interval of the mean (Student's t) of at least one run's value."""
    n, mean = len(values), fmean(values)
    if n < 2:
        return Summary(n, mean, None, None, None)
    sd = stdev(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The mean of `first` minus that of `second`, by Welch's t test: the two may spread differently.

    Each needs two runs for an interval, and one of the two systems must spread.
    """
    difference = fmean(first) - fmean(second)
    if min(len(first), len(second)) < 2 or stdev(first) == stdev(second) == 0:
        return Difference(difference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy's where all runs of one system are equal
        test = stats.ttest_ind(first, second, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Difference(difference, float(low), float(high), float(test.pvalue), float(test.df))


def against(values: Sequence[float], stated: float, within: float = 0.0) -> Difference:
    """The mean minus a stated number, by a one-sample t test.

    The number was rounded by up to `within`: `p` is that of the nearest value that rounds to it.
    """
    mean = fmean(values)
    if len(values) < 2 or stdev(values) == 0:
        return Difference(mean - stated)
    test = stats.ttest_1samp(values, min(max(mean, stated - within), stated + within))
    low, high = test.confidence_interval(LEVEL)
    return Difference(mean - stated, float(low) - stated, float(high) - stated, float(test.pvalue), float(test.df))


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

    Returns:
        The comparisons (an entry per pair, system against system, and metric) and the claims (an entry per check).
    """
    claimed = [check for claim in claims for check in claim.checks]
    compared = [Check(metric, "", compare=pair) for pair in pairs for metric in metrics]
    tests = {check: _test(check, values, machines) for check in claimed + compared}
    corrected = _corrected(claimed, tests)
    corrected |= _corrected([check for check in compared if _question(check) not in corrected], tests)
    entries = {
        check: _entry(check, test, corrected.get(_question(check)), values, curves, machines)
        for check, test in tests.items()
    }
    judged = [
        {"says": claim.says, "remark": claim.remark, "checks": [entries[check] for check in claim.checks]}
        for claim in claims
    ]
    return [entries[check] for check in compared], judged


def _test(check: Check, values: Values, machines: Machines) -> Difference | None:
    samples = [values[system].get(check.metric, []) for system in check.systems]
    if check.kind == "curve" or not all(samples):
        return None
    if check.value is not None:
        return against(samples[0], check.value, check.within)
    test = welch(*samples)
    return test if _is_comparable(check, machines) else Difference(test.difference)


def _is_comparable(check: Check, machines: Machines) -> bool:
    """Whether machine and threads were the same, where they matter."""
    used = {machine for system in check.systems for machine in machines[system]}
    return check.kind == "number" or not METRICS[check.metric].depends_on_machine or len(used) < 2


def _question(check: Check) -> Any:
    """What a check asks: the same from both sides."""
    return frozenset(check.systems), check.metric, check.value, check.within if check.kind == "number" else 0.0


def _corrected(checks: Iterable[Check], tests: Mapping[Check, Difference | None]) -> dict[Any, Corrected]:
    """By question: one that is asked twice, or from both sides, counts once."""
    p_values = {_question(check): test.p for check in checks if (test := tests[check]) and test.p is not None}
    adjusted = holm(list(p_values.values()))
    # Holm compares the smallest p that is left with the level over the number of tests that are left.
    alpha = (1 - LEVEL) / max(sum(p >= 1 - LEVEL for p in adjusted), 1)
    return {question: (p, alpha) for question, p in zip(p_values, adjusted, strict=True)}


def _entry(
    check: Check,
    test: Difference | None,
    corrected: Corrected | None,
    values: Values,
    curves: Curves,
    machines: Machines,
) -> Entry:
    asked = {**asdict(check), "systems": check.systems, "kind": check.kind}
    if check.kind == "curve":
        return asked | _fall(check.metric, curves[check.system])
    samples = [values[system].get(check.metric, []) for system in check.systems]
    counts = [len(sample) for sample in samples]
    n = " and ".join(map(str, counts if len(set(counts)) > 1 else counts[:1]))
    p_holm = detectable = None
    if test is not None and corrected is not None:
        p_holm, alpha = corrected
        if p_holm >= 1 - LEVEL:
            detectable = test.detectable(alpha) + (check.within if check.kind == "number" else 0)
        verdict, outcome = _words(check, test, detectable, n)
    elif not any(counts):
        verdict, outcome = "no run has finished", OPEN
    elif min(counts) < 2:
        verdict, outcome = f"no verdict with n = {n}", OPEN
    elif not _is_comparable(check, machines):
        verdict, outcome = "no verdict: not the same machine and threads", OPEN
    else:
        verdict, outcome = f"no verdict: the runs do not differ among themselves (n = {n})", OPEN
    return asked | {
        "n": counts,
        "means": [fmean(sample) if sample else None for sample in samples],
        **(asdict(test) if test else dict.fromkeys(("difference", "low", "high", "p", "df"))),
        "p_holm": p_holm,
        "detectable": detectable,
        "verdict": verdict,
        "outcome": outcome,
    }


def _words(check: Check, test: Difference, detectable: float | None, n: str) -> tuple[str, str]:
    """The verdict, and what it means for the expectation (empty where there is none).

    `detectable` is None where a difference is shown, and else how large a one could have been shown.
    """
    is_shown, is_above = detectable is None, test.difference > 0
    size = METRICS[check.metric].show_difference(detectable).removeprefix("+")
    could = f"shown with n = {n}, which could have shown one of about {size}"
    if check.kind == "number":
        if is_shown:
            agrees = {"equal": False, "at least": is_above, "at most": not is_above}[check.expect]
            side = "above" if is_above else "below"
            return f"{side} the stated number", SUPPORTED if agrees else CONTRADICTED
        assert test.low is not None
        assert test.high is not None
        is_inside = test.low <= check.within and test.high >= -check.within
        place = "inside" if is_inside else "outside"
        verdict = f"no difference from the stated number {could}; the number is {place} the 95% interval"
        return verdict, NOT_CONTRADICTED if check.expect == "equal" and is_inside else OPEN
    verdict = ("higher" if is_above else "lower") if is_shown else f"no difference {could}"
    if not check.expect:
        return verdict, ""
    if check.expect.startswith("not "):
        wrong = check.expect.removeprefix("not ")
        return verdict, NOT_CONTRADICTED if not is_shown else CONTRADICTED if verdict == wrong else SUPPORTED
    return verdict, OPEN if not is_shown else SUPPORTED if verdict == check.expect else CONTRADICTED


def _fall(metric: str, curves: Sequence[Sequence[Mapping[str, float]]]) -> Entry:
    """A rise in any run contradicts that the curve always falls; one run without a rise supports nothing."""
    runs = [points for rows in curves if len(points := [row[metric] for row in rows if metric in row]) > 1]
    rises = sum(after >= before for points in runs for before, after in pairwise(points))
    steps, n = sum(len(points) - 1 for points in runs), len(runs)
    if not runs:
        verdict, outcome = "no run has two epochs", OPEN
    elif rises:
        verdict, outcome = f"{rises} of {steps} steps from one epoch to the next do not fall, n = {n}", CONTRADICTED
    elif n == 1:
        verdict, outcome = f"falls at all {steps} steps of the one run; no verdict with n = 1", OPEN
    else:
        verdict, outcome = f"falls with every epoch in all {n} runs", SUPPORTED
    return {"n": [n], "verdict": verdict, "outcome": outcome}
