"""Microseconds per step beside the net's own work: of the Trainer's loop, and of what `fit` has running in it."""

from typing import Any

from cifar_lightning.bench.contestants import bare_loop, everything_off, our_experiment, ours
from cifar_lightning.bench.measure import difference, interleave, summaries
from cifar_lightning.bench.one_layer import OneLayer
from cifar_lightning.bench.stopwatch import Span
from cifar_lightning.bench.workbench import Workbench

BATCH_SIZE = 30  # the report's
WARMUP_STEPS = 50
BARE, OFF, OURS = "bare loop", "Trainer, everything off", "ours, everything on"


def measure(bench: Workbench, training: dict[str, Any]) -> dict[str, Any]:
    """The three loops over the one-layer net in fp32.

    Args:
        bench: where.
        training: what `training.measure` gave, for the step that the overhead is a share of.

    Returns:
        `us_per_step` by loop; `trainer_us`, off minus bare, and `ours_us`, ours minus off, by rounds;
        `fastest_us`, the same between the fastest rounds of each, where the machine disturbed least; and
        `share_of_step`: by batch size the median of both over the median step of the report's CNN.
    """
    span = span_of(bench)
    experiment = our_experiment(
        bench, span, [f"--model.net={OneLayer.__module__}.{OneLayer.__name__}", "--trainer.precision=32-true"]
    )
    values = interleave(
        {
            BARE: lambda: 1e6 * bare_loop(bench, OneLayer(), span, "32-true"),
            OFF: lambda: 1e6 * everything_off(bench, OneLayer(), span),
            OURS: lambda: 1e6 * ours(bench, experiment, span),
        },
        bench.effort.overhead_rounds,
        bench.watch,
    )
    costs = {"trainer_us": difference(values[OFF], values[BARE]), "ours_us": difference(values[OURS], values[OFF])}
    steps_us = {size: 1e6 * int(size) / result["images_per_s"]["ours"]["median"] for size, result in training.items()}
    return {
        **span._asdict(),
        "us_per_step": summaries(values),
        **costs,
        "fastest_us": {
            "trainer": min(values[OFF]) - min(values[BARE]),
            "ours": min(values[OURS]) - min(values[OFF]),
        },
        "share_of_step": {
            size: {
                "step_us": step_us,
                "trainer": costs["trainer_us"]["median"] / step_us,
                "ours": costs["ours_us"]["median"] / step_us,
            }
            for size, step_us in steps_us.items()
        },
    }


def span_of(bench: Workbench) -> Span:
    """The steps that are timed: they end before the first epoch does."""
    batches = len(bench.loader(BATCH_SIZE))
    if batches > WARMUP_STEPS + 1:
        return Span(BATCH_SIZE, WARMUP_STEPS, min(bench.effort.overhead_steps, batches - WARMUP_STEPS - 1))
    size = max(len(bench.data.images_of("train")[1]) // 6, 1)  # a tiny data set, in tests
    return Span(size, 1, 3)
