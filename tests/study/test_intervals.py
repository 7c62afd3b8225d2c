"""The statistics on fixed numbers, against scipy's own tests and published examples."""

import pytest
from scipy import stats

from cifar_lightning.study.stats import against, holm, summarise, welch

FIRST, SECOND = [0.7834, 0.7791, 0.7850], [0.7702, 0.7655, 0.7731, 0.7690]


def test_mean_deviation_and_interval() -> None:
    summary = summarise([1.0, 2.0, 4.0])
    assert (summary.n, summary.mean) == (3, pytest.approx(7 / 3))
    assert summary.sd == pytest.approx(1.5275252316519468)
    low, high = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1.0, 2.0, 4.0]))
    assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))


def test_one_run_has_no_spread() -> None:
    summary = summarise([0.78])
    assert (summary.n, summary.mean, summary.sd, summary.low, summary.high) == (1, 0.78, None, None, None)


def test_welch_is_scipy_s() -> None:
    ours = welch(FIRST, SECOND)
    theirs = stats.ttest_ind(FIRST, SECOND, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert (ours.low, ours.high) == (pytest.approx(interval.low, rel=1e-9), pytest.approx(interval.high, rel=1e-9))
    assert ours.difference == pytest.approx(0.0130500, abs=1e-7)


@pytest.mark.parametrize("samples", [([1.0], [2.0, 3.0]), ([1.0, 2.0], [3.0]), ([1.0, 1.0], [2.0, 2.0])])
def test_no_interval_where_nothing_shows_a_spread(samples: tuple[list[float], list[float]]) -> None:
    test = welch(*samples)
    assert (test.low, test.high, test.p) == (None, None, None)
    assert test.difference < 0


def test_one_system_s_runs_may_be_equal(recwarn: pytest.WarningsRecorder) -> None:
    test = welch([0.5, 0.5, 0.5], [0.70, 0.71, 0.72])
    low, high = stats.t.interval(0.95, 2, loc=-0.21, scale=0.01 / 3**0.5)  # as if the first were a stated number
    assert (test.low, test.high) == (pytest.approx(low), pytest.approx(high))
    assert not recwarn.list


def test_a_stated_number_is_scipy_s_one_sample_test() -> None:
    ours, theirs = against(FIRST, 0.77), stats.ttest_1samp(FIRST, 0.77)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
    interval = theirs.confidence_interval(0.95)
    assert ours.low == pytest.approx(interval.low - 0.77)
    assert ours.high == pytest.approx(interval.high - 0.77)


def test_a_rounded_number_is_as_near_as_its_rounding_allows() -> None:
    nearest = against(FIRST, 0.775)
    assert against(FIRST, 0.77, within=0.005).p == pytest.approx(nearest.p)
    assert against(FIRST, 0.77, within=0.1).p == pytest.approx(1)
    assert against(FIRST, 0.77, within=0.1).difference == against(FIRST, 0.77).difference


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1 raised to the one before it.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.04], [0.04]),
        ([0.5, 0.6, 0.9], [1, 1, 1]),
        ([0.01, 0.011, 0.02], [0.03, 0.03, 0.03]),  # never below that of a smaller p
        ([], []),
    ],
)
def test_holm_on_fixed_numbers(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)
