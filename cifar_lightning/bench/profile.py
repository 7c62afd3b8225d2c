"""Where the time of a training step on a CPU goes: torch's operators, by their own time."""

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.profiler import profile

from cifar_lightning.bench.workbench import Workbench
from cifar_lightning.nets.report_cnn import ReportCNN

BATCH_SIZE = 128  # where the processor comes nearest to its matrix rate
STEPS = 20
NAMED = 8  # operators that are told apart; the rest is one figure
# The operators that multiply matrices; all others move and clear memory and make small sums.
PRODUCTS = ("convolution", "conv_depthwise", "addmm", "aten::mm", "aten::bmm", "linear")


def measure(bench: Workbench) -> dict[str, Any]:
    """The step of the bare loop over one batch, operator by operator.

    Returns:
        `batch_size`; `operators`, the share of the step's time by name, the greatest first, with `the rest`; and
        `products`, the share of those that multiply matrices.
    """
    net = ReportCNN().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    images, labels = next(iter(bench.loader(BATCH_SIZE)))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bench.precision == "bf16-mixed"):
            loss = F.cross_entropy(net(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(bench.effort.warmup_steps):
        step()
    bench.watch("operators of a step", 1)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler says on the console that it starts
    with profile(use_kineto=False) as profiler:
        for _ in range(STEPS):
            step()
    times_us = {event.key: float(event.self_cpu_time_total) for event in profiler.key_averages()}
    return {"batch_size": len(labels), **shares(times_us)}


def is_product(operator: str) -> bool:
    """Whether an operator multiplies matrices, as convolutions do."""
    return any(product in operator for product in PRODUCTS)


def shares(times: dict[str, float]) -> dict[str, Any]:
    """`operators` and `products` of `measure`, from each operator's own time."""
    total = sum(times.values())
    ordered = sorted(times, key=lambda name: times[name], reverse=True)
    named = {name: times[name] / total for name in ordered[:NAMED]}
    products = sum(time for name, time in times.items() if is_product(name))
    return {"operators": named | {"the rest": 1 - sum(named.values())}, "products": products / total}
