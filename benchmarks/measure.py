"""The order in which contestants are measured, what is made of the values, and the conditions under which they came."""

import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cifar_lightning.runs import environment

Summary = dict[str, Any]  # median, min and max of the values, and the values in the order of the rounds


def interleave(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Calls every contestant once per round, so that a machine that slows down slows all of them.

    Each round starts with the next contestant, so that none always comes first. Returns the values of each in the
    order of the rounds.
    """
    names = list(contestants)
    values: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        print(f"round {index + 1} of {rounds}: {', '.join(names)}", file=sys.stderr, flush=True)
        first = index % len(names)
        for name in names[first:] + names[:first]:
            values[name].append(contestants[name]())
    return values


def summary(values: Sequence[float]) -> Summary:
    """Median, least and greatest of at least one value, with the values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": list(values)}


def summaries(values: Mapping[str, Sequence[float]]) -> dict[str, Summary]:
    """The summary of each contestant."""
    return {name: summary(rounds) for name, rounds in values.items()}


def ratio(values: Sequence[float], others: Sequence[float]) -> Summary:
    """The summary of each round's `value / other`: what slowed the whole round cancels out."""
    return summary([value / other for value, other in zip(values, others, strict=True)])


def ratios(values: Mapping[str, Sequence[float]], mine: str) -> dict[str, Summary]:
    """`ratio` of the contestant `mine` to each of the others, by the other's name."""
    return {name: ratio(values[mine], others) for name, others in values.items() if name != mine}


def difference(values: Sequence[float], others: Sequence[float]) -> Summary:
    """The summary of each round's `value - other`."""
    return summary([value - other for value, other in zip(values, others, strict=True)])


def command() -> str:
    """The command that runs now."""
    return shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])


def conditions(accelerator: str) -> dict[str, Any]:
    """`command`, `commit`, `dirty`, `versions` and `hardware` of a measurement on 'cpu', 'cuda' or 'mps'."""
    return {
        "command": command(),
        **environment.commit(),
        "versions": environment.versions(),
        "hardware": environment.hardware(accelerator),
    }
