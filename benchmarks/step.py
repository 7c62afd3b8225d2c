"""What a training step costs beside the net's own work, and which of torch's operators take its time on a CPU."""

import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch.profiler import ProfilerActivity, profile

from benchmarks.contestants import LEARNING_RATE, OneLayer, Span, bare_loop, everything_off, our_experiment, ours
from benchmarks.measure import difference, interleave, summaries
from benchmarks.workbench import Workbench
from cifar_lightning.config.parser import Experiment
from cifar_lightning.nets.report_cnn import ReportCNN

OVERHEAD_BATCH_SIZE = 30  # the report's
OVERHEAD_WARMUP_STEPS = 50
STEP_HOOKS = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end",
)  # fmt: skip
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
        `us_per_step` by loop; `trainer_us`, off minus bare, and `ours_us`, ours minus off, by rounds; `parts_us`,
        see `parts`; `fastest_us`, the same between the fastest rounds of each, where the machine disturbed least; and
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
    parts_us = parts(bench, experiment, span)
    costs = {"trainer": difference(values[OFF], values[BARE]), "ours": difference(values[OURS], values[OFF])}
    steps_us = {size: 1e6 * int(size) / result["images_per_s"]["ours"]["median"] for size, result in training.items()}
    return {
        **span._asdict(),
        "us_per_step": summaries(values),
        **{f"{name}_us": cost for name, cost in costs.items()},
        "parts_us": parts_us,
        "fastest_us": {
            "trainer": min(values[OFF]) - min(values[BARE]),
            "ours": min(values[OURS]) - min(values[OFF]),
        },
        "share_of_step": {
            size: {"step_us": step_us, **{name: cost["median"] / step_us for name, cost in costs.items()}}
            for size, step_us in steps_us.items()
        },
    }


def parts(bench: Workbench, experiment: Experiment, span: Span) -> dict[str, Any]:
    """Microseconds of a step within the hooks of each of our callbacks, and in the metrics; the greatest first.

    What is left of `ours_us` is Lightning's own: it calls every hook of every callback, those that do nothing too.
    """
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            started_at = time.perf_counter()
            try:
                return function(*arguments, **settings)
            finally:
                spent[name] += time.perf_counter() - started_at

        return call

    def watch(trainer: Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            name = type(callback).__name__
            for hook in STEP_HOOKS:
                if getattr(type(callback), hook) is not getattr(Callback, hook):
                    setattr(callback, hook, timed(name, getattr(callback, hook)))
        metrics = experiment.model.train_metrics
        metrics.update = timed("metrics", metrics.update)  # type: ignore[method-assign]

    ours(bench, experiment, span, watch)
    return dict(sorted(((name, 1e6 * s / span.last_step) for name, s in spent.items()), key=lambda part: -part[1]))


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
