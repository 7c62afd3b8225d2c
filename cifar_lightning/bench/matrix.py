"""The machine's matrix rate: what FLOP/s its best matrix product reaches, the roof over every net."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from cifar_lightning.bench.effort import Effort
from cifar_lightning.bench.measure import summary
from cifar_lightning.bench.workbench import Workbench
from cifar_lightning.training.callbacks.timer import synchronise

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# The tall product's other two sides: those of the report's second convolution, 5x5 over 32 channels to 64.
IM2COL_DEPTH, IM2COL_COLUMNS = 5 * 5 * 32, 64

LARGEST_ON_CPU = 4096  # a larger product is no faster there and takes seconds

Shape = tuple[int, int, int]  # (m, k, n): (m, k) times (k, n)


def measure(bench: Workbench) -> dict[str, Any]:
    """The rates of fp32 and bf16, native or not.

    Returns:
        By precision `flop_per_s`, that of the best shape, and `shapes`: each one's summary in FLOP/s.
    """
    rates = {}
    for name, dtype in DTYPES.items():
        results = {}
        for shape in shapes(bench.effort, bench.device):
            text = "x".join(map(str, shape))
            bench.watch(f"matrix rate, {name}, {text}", 1)
            multiply = product(shape, dtype, bench.device)
            results[text] = summary(
                shape_rates(shape, multiply, bench.effort.matrix_repeats, bench.effort.matrix_s, time.perf_counter)
            )
        rates[name] = {"flop_per_s": max(result["max"] for result in results.values()), "shapes": results}
    return rates


def shapes(effort: Effort, device: torch.device) -> Iterable[Shape]:
    """The products that are tried on `device`."""
    for side in effort.matrix_sides:
        if side <= LARGEST_ON_CPU or device.type != "cpu":
            yield side, side, side
    yield effort.matrix_rows, IM2COL_DEPTH, IM2COL_COLUMNS


def product(shape: Shape, dtype: torch.dtype, device: torch.device) -> Callable[[int], None]:
    """A function that multiplies a given number of times and waits for the device."""
    rows, depth, columns = shape
    left = torch.randn(rows, depth, device=device).to(dtype)
    right = torch.randn(depth, columns, device=device).to(dtype)
    out = torch.empty(rows, columns, dtype=dtype, device=device)

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.mm(left, right, out=out)
        synchronise(device)

    return multiply


def shape_rates(
    shape: Shape, multiply: Callable[[int], None], repeats: int, least_s: float, clock: Callable[[], float]
) -> list[float]:
    """The FLOP/s of each repeat, every one of as many products as take `least_s` seconds.

    Args:
        shape: (m, k, n), which is 2 m k n operations.
        multiply: does the product a given number of times.
        repeats: how many rates.
        least_s: seconds per repeat.
        clock: gives seconds.
    """

    def timed(times: int) -> float:
        started_at = clock()
        multiply(times)
        return clock() - started_at

    multiply(1)  # the first one sets up threads or handles
    times = max(math.ceil(least_s / max(timed(1), 1e-9)), 1)
    return [2 * math.prod(shape) * times / timed(times) for _ in range(repeats)]
