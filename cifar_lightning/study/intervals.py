"""The statistics of a few runs: mean and interval, Welch's difference, Holm's correction. Numbers in, numbers out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

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
