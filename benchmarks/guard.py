"""What the guard against non-finite numbers costs at each step, on a net so small that nothing else is seen.

    python -m benchmarks guard

trains `OneLayer` (batch 30, Adam, fp32, the Trainer with all else off) once, on one thread, and puts `NanGuard` in
and takes it out in turn, a block of steps at a time: two trainings differ by more than the guard costs. It prints the
difference of a step in microseconds of the process's own time, which a busy machine disturbs least. That is the cost on
a CPU, where the flag is read at once; on a GPU the weights are copied and put back by the device, which `gpu_day`
measures by the clock. The JSON of `fault_matrix` has the same figure.
"""

import argparse
import time
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.contestants import Minimal, OneLayer, out_of_sight
from benchmarks.measure import difference, summaries
from cifar_lightning.data.loader import TensorLoader
from cifar_lightning.training.callbacks.nan_guard import NanGuard
from cifar_lightning.training.callbacks.timer import synchronise
from cifar_lightning.training.trainer import NoProfiler

BATCH_SIZE, WARMUP_STEPS, BLOCK_STEPS, ROUNDS = 30, 200, 200, 50
NAMES = ("without", "guard")


class Turns(Callback):
    """After the warm-up, blocks of steps without and with `guard` in turn; `us_per_step` holds each block's cost.

    Args:
        guard: is in the Trainer's list at first.
        block_steps: steps of a block.
    """

    def __init__(self, guard: Callback, block_steps: int = BLOCK_STEPS) -> None:
        self.guard, self.block_steps = guard, block_steps
        self.us_per_step: dict[str, list[float]] = {name: [] for name in NAMES}
        self._began = 0.0

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """At the end of a block notes its cost and lets the other one begin."""
        steps = trainer.global_step - WARMUP_STEPS
        if steps < 0 or steps % self.block_steps:
            return
        now, block = _now(trainer.strategy.root_device), steps // self.block_steps
        if block:
            self.us_per_step[NAMES[(block - 1) % 2]].append(1e6 * (now - self._began) / self.block_steps)
        # A new list: Lightning is going through the old one.
        trainer.callbacks = [self.guard, self] if block % 2 else [self]  # type: ignore[attr-defined]
        self._began = _now(trainer.strategy.root_device)


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    synchronise(device)
    return time.perf_counter()


def measure(rounds: int = ROUNDS, block_steps: int = BLOCK_STEPS, accelerator: str = "cpu") -> dict[str, Any]:
    """`us_per_step` of both, and `guard_us`, what the guard costs beside the block without before it, by rounds."""
    torch.set_num_threads(1)
    turns, steps = Turns(NanGuard(), block_steps), WARMUP_STEPS + 2 * rounds * block_steps
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (30_000, 32, 32, 3), dtype=torch.uint8)
    loader = TensorLoader(pixels, torch.randint(0, 10, (len(pixels),)), batch_size=BATCH_SIZE, shuffle=True)
    with out_of_sight():
        trainer = Trainer(
            accelerator=accelerator, devices=1, max_steps=steps, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[turns.guard, turns],
            profiler=NoProfiler(),
        )  # fmt: skip
        trainer.fit(Minimal(OneLayer()), loader)
    values = turns.us_per_step
    cost = difference(values["guard"], values["without"])
    return {
        "batch_size": BATCH_SIZE, "block_steps": block_steps, "us_per_step": summaries(values), "guard_us": cost,
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """Measures and prints."""
    argparse.ArgumentParser("python -m benchmarks guard", description=__doc__.splitlines()[0]).parse_args(argv)
    cost = measure()["guard_us"]
    print(f"{cost['median']:.1f} us a step ({cost['min']:.1f} to {cost['max']:.1f} over {ROUNDS} rounds)")
    return 0
