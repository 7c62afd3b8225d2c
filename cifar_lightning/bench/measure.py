"""Who is measured when, and what is made of the values: interleaving, summaries, ratios by round."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Summary = dict[str, Any]  # median, min and max of the values, and the values in the order of the rounds
Watch = Callable[[str, int], None]  # told who is about to be measured, and in which round, from 1


def nobody(name: str, round_number: int) -> None:
    """Watches nothing."""


def interleave(
    contestants: Mapping[str, Callable[[], float]], rounds: int, watch: Watch = nobody
) -> dict[str, list[float]]:
    """Measures every contestant once per round, so that a machine that slows down slows all of them.

    Each round starts with the next contestant, so that none always comes first.

    Args:
        contestants: by name, each runs its work and returns one value.
        rounds: how many values each gives.
        watch: called before every measurement.

    Returns:
        Each contestant's values in the order of the rounds; names in the order of `contestants`.
    """
    names = list(contestants)
    values: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            watch(name, index + 1)
            values[name].append(contestants[name]())
    return values


def summary(values: Sequence[float]) -> Summary:
    """Median, least and greatest of at least one value, with the values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": list(values)}


def summaries(values: Mapping[str, Sequence[float]]) -> dict[str, Summary]:
    """The summary of each contestant."""
    return {name: summary(its) for name, its in values.items()}


def ratio(values: Sequence[float], others: Sequence[float]) -> Summary:
    """The summary of each round's `value / other`: what both have of a slow round falls out.

    Raises:
        ValueError: they are not of the same rounds.
    """
    return summary([value / other for value, other in zip(values, others, strict=True)])


def difference(values: Sequence[float], others: Sequence[float]) -> Summary:
    """The summary of each round's `value - other`.

    Raises:
        ValueError: they are not of the same rounds.
    """
    return summary([value - other for value, other in zip(values, others, strict=True)])


def ratios(values: Mapping[str, Sequence[float]], mine: str) -> dict[str, Summary]:
    """`ratio` of the contestant `mine` to each of the others, by the other's name."""
    return {name: ratio(values[mine], others) for name, others in values.items() if name != mine}
