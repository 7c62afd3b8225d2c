"""The benchmark `guard`: the guard is there in every second block and nowhere else."""

from typing import Any

import pytest
import torch

from benchmarks import guard
from cifar_lightning.training.callbacks.nan_guard import NanGuard


def test_blocks_with_and_without_the_guard_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded: list[int] = []
    own = NanGuard.on_before_optimizer_step

    def noted(self: NanGuard, trainer: Any, *arguments: Any) -> None:
        guarded.append(trainer.global_step)
        own(self, trainer, *arguments)

    monkeypatch.setattr(NanGuard, "on_before_optimizer_step", noted)
    threads = torch.get_num_threads()
    monkeypatch.setattr(guard, "WARMUP_STEPS", 4)
    try:
        result = guard.measure(rounds=2, block_steps=3)
    finally:
        torch.set_num_threads(threads)
    # The warm-up, then blocks of 3 steps: without, with, without, with.
    assert guarded == [*range(4), 7, 8, 9, 13, 14, 15]
    assert [len(result["us_per_step"][name]["values"]) for name in ("without", "guard")] == [2, 2]
    pairs = zip(*(result["us_per_step"][name]["values"] for name in ("guard", "without")), strict=True)
    assert result["guard_us"]["values"] == pytest.approx([one - other for one, other in pairs])
