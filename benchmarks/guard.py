"""What the guard against numbers that are none costs at each step, on a net so small that nothing else is seen.

    python benchmarks/guard.py

trains `OneLayer` (batch 30, Adam, fp32, the Trainer with all else off) with and without `FiniteGuard`, in turn, on one
thread, and prints the difference of a step in microseconds of the process's own time, which a busy machine disturbs
least. That is the cost on a CPU, where the flag is read at once; on a GPU the weights are copied and put back by the
device, which no CPU can show. The same stands in the JSON of `benchmarks/fault_matrix.py`.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cifar_lightning.bench.measure import difference, interleave, summaries
from cifar_lightning.bench.one_layer import OneLayer
from cifar_lightning.bench.quiet import out_of_sight, signal_handlers_kept
from cifar_lightning.callbacks import finite
from cifar_lightning.callbacks.no_profiler import NoProfiler
from cifar_lightning.data.loader import TensorLoader

BATCH_SIZE, WARMUP_STEPS, STEPS, ROUNDS = 30, 50, 800, 15


class _Training(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = OneLayer()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class _Clock(Callback):
    def __init__(self) -> None:
        self.readings: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        if trainer.global_step in (WARMUP_STEPS, WARMUP_STEPS + STEPS):
            self.readings.append(time.process_time())


def us_per_step(*callbacks: Callback) -> float:
    """Microseconds of the process's time per training step with these callbacks."""
    clock, images = _Clock(), BATCH_SIZE * (WARMUP_STEPS + STEPS + 1)
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8)
    loader = TensorLoader(pixels, torch.randint(0, 10, (images,)), batch_size=BATCH_SIZE, shuffle=True)
    with out_of_sight(), signal_handlers_kept():
        trainer = Trainer(
            accelerator="cpu", devices=1, max_steps=WARMUP_STEPS + STEPS, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[*callbacks, clock],
            profiler=NoProfiler(),
        )  # fmt: skip
        trainer.fit(_Training(), loader)
    first, last = clock.readings
    return 1e6 * (last - first) / STEPS


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """`us_per_step` of both, and `guard_us`, what the guard costs beside the loop without, by rounds."""
    torch.set_num_threads(1)
    contestants: dict[str, Callable[[], float]] = {
        "without": us_per_step,
        "guard": lambda: us_per_step(finite.FiniteGuard()),
    }
    values = interleave(contestants, rounds)
    cost = difference(values["guard"], values["without"])
    return {"batch_size": BATCH_SIZE, "steps": STEPS, "us_per_step": summaries(values), "guard_us": cost}


if __name__ == "__main__":
    cost = measure()["guard_us"]
    print(f"{cost['median']:.1f} us a step ({cost['min']:.1f} to {cost['max']:.1f} over {ROUNDS} rounds)")
