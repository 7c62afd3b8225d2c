"""What a training step costs beside the net's own work, and which of torch's operators take its time on a CPU."""

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.contestants import LEARNING_RATE, OneLayer, Span, bare_loop, everything_off, our_experiment, ours
from benchmarks.measure import difference, interleave, summaries
from benchmarks.workbench import Workbench
from cifar_lightning.nets.report_cnn import ReportCNN

OVERHEAD_BATCH_SIZE = 30  # the report's
OVERHEAD_WARMUP_STEPS = 50
BARE, OFF, OURS = "bare loop", "Trainer, everything off", "ours, everything on"

PROFILE_BATCH_SIZE = 128  # where the processor comes nearest to its matrix rate
PROFILE_STEPS = 20
NAMED = 8  # operators that are told apart; the rest is one figure
# The operators that multiply matrices; all others move and clear memory and make small sums.
PRODUCTS = ("convolution", "conv_depthwise", "addmm", "aten::mm", "aten::bmm", "linear")


def overhead(bench: Workbench, training: dict[str, Any]) -> dict[str, Any]:
    """Three loops over the one-layer net in fp32: bare, in the Trainer, and in `fit`.

    Args:
        bench: where.
        training: what `training.measure` gave, for the step that the overhead is a share of.

    Returns:
        `us_per_step` by loop; `trainer_us`, off minus bare, and `ours_us`, ours minus off, by rounds;
        `fastest_us`, the same between the fastest rounds of each, where the machine disturbed least; and
        `share_of_step`: by batch size the median of both over the median step of the report's CNN.
    """
    most = len(bench.loader(OVERHEAD_BATCH_SIZE)) - OVERHEAD_WARMUP_STEPS - 1  # it ends before the first epoch does
    span = Span(OVERHEAD_BATCH_SIZE, OVERHEAD_WARMUP_STEPS, min(bench.effort.overhead_steps, most))
    net = f"--model.net={OneLayer.__module__}.{OneLayer.__name__}"
    experiment = our_experiment(bench, span, net, "--trainer.precision=32-true")
    values = interleave(
        {
            BARE: lambda: 1e6 * bare_loop(bench, OneLayer(), span, "32-true"),
            OFF: lambda: 1e6 * everything_off(bench, OneLayer(), span),
            OURS: lambda: 1e6 * ours(bench, experiment, span),
        },
        bench.effort.overhead_rounds,
    )
    costs = {"trainer": difference(values[OFF], values[BARE]), "ours": difference(values[OURS], values[OFF])}
    steps_us = {size: 1e6 * int(size) / result["images_per_s"]["ours"]["median"] for size, result in training.items()}
    return {
        **span._asdict(),
        "us_per_step": summaries(values),
        **{f"{name}_us": cost for name, cost in costs.items()},
        "fastest_us": {
            "trainer": min(values[OFF]) - min(values[BARE]),
            "ours": min(values[OURS]) - min(values[OFF]),
        },
        "share_of_step": {
            size: {"step_us": step_us, **{name: cost["median"] / step_us for name, cost in costs.items()}}
            for size, step_us in steps_us.items()
        },
    }


def operators(bench: Workbench) -> dict[str, Any]:
    """A step of the bare loop over one batch on the CPU, operator by operator.

    Returns:
        `batch_size`; `operators`, the share of the step's time by name, the greatest first, with `the rest`; and
        `products`, the share of those that multiply matrices.
    """
    net = ReportCNN().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    images, labels = next(iter(bench.loader(PROFILE_BATCH_SIZE)))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bench.precision == "bf16-mixed"):
            loss = F.cross_entropy(net(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(bench.effort.warmup_steps):
        step()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler says on the console that it starts
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(PROFILE_STEPS):
            step()
    times_us = {event.key: float(event.self_cpu_time_total) for event in profiler.key_averages()}
    return {"batch_size": len(labels), **shares(times_us)}


def is_product(operator: str) -> bool:
    """Whether an operator multiplies matrices, as convolutions do."""
    return any(product in operator for product in PRODUCTS)


def shares(times: dict[str, float]) -> dict[str, Any]:
    """`operators` and `products` of the function `operators`, from each operator's own time."""
    total = sum(times.values())
    ordered = sorted(times, key=lambda name: times[name], reverse=True)
    named = {name: times[name] / total for name in ordered[:NAMED]}
    products = sum(time for name, time in times.items() if is_product(name))
    return {"operators": named | {"the rest": 1 - sum(named.values())}, "products": products / total}
