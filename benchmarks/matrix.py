"""The machine's matrix rate: the FLOP/s of its best matrix product, the roof over every net."""

from typing import Any

import torch
from torch.utils.benchmark import Timer

from benchmarks.measure import Summary, summary
from benchmarks.workbench import Workbench

# (m, k, n) of the products of which the best counts. The last is the report's second convolution, 5x5 over 32 channels
# to 64, as one product: a row for each output pixel of a batch.
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096), (2**17, 5 * 5 * 32, 64))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROUND_S = 0.2  # at least, of products in each round


def measure(bench: Workbench) -> dict[str, Any]:
    """The rates of fp32 and bf16, native or not.

    Returns:
        By precision `flop_per_s`, that of the best shape, and `shapes`: each one's summary in FLOP/s.
    """
    rates = {}
    for name, dtype in DTYPES.items():
        shapes = {"x".join(map(str, shape)): product_rate(bench, shape, dtype) for shape in SHAPES}
        rates[name] = {"flop_per_s": max(rate["max"] for rate in shapes.values()), "shapes": shapes}
    return rates


def product_rate(bench: Workbench, shape: tuple[int, int, int], dtype: torch.dtype) -> Summary:
    """FLOP/s of the product of (m, k) and (k, n), which is 2 m k n operations, over the rounds."""
    m, k, n = shape
    timer = Timer(
        "mm(left, right, out=out)",
        globals={
            "mm": torch.mm,
            "left": torch.randn(m, k, device=bench.device).to(dtype),
            "right": torch.randn(k, n, device=bench.device).to(dtype),
            "out": torch.empty(m, n, dtype=dtype, device=bench.device),
        },
        num_threads=torch.get_num_threads(),
    )
    rounds = range(bench.effort.rounds)
    return summary([2 * m * k * n / timer.blocked_autorange(min_run_time=ROUND_S).median for _ in rounds])
