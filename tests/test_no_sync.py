"""A training step reads nothing back from the device: what is read is read per epoch, however many steps it has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY_FLAGS
from torch.utils._python_dispatch import TorchDispatchMode

from cifar_lightning.training.callbacks import nan_guard

Run = Callable[..., tuple[int, str, str]]

# SGD, since Adam counts its steps in a tensor of the CPU and reads that one.
FLAGS = ["--model.optimizer=SGD", "--model.optimizer.lr=0.1", "--trainer.max_epochs=1", "--final_test=false"]


class Reads(TorchDispatchMode):
    """Counts what waits for a device: `.item()`, `float(tensor)`, `bool(tensor)` and their like."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def reads_of_an_epoch(run: Run, *flags: str) -> int:
    with Reads() as reads:
        exit_code, _, err = run("fit", *TINY_FLAGS, *FLAGS, *flags)
    assert exit_code == 0, err
    return reads.count


@pytest.mark.parametrize("flags", [[], ["--model.scheduler=TriangularLR", "--data.augment.flip=random"]])
@pytest.mark.parametrize("waits", [False, True], ids=["as on a CPU", "as on a GPU"])
def test_reads_do_not_grow_with_the_steps(
    run: Run, monkeypatch: pytest.MonkeyPatch, flags: list[str], waits: bool
) -> None:
    if waits:  # the guard's flag is not read at each step: updates are masked by it
        monkeypatch.setattr(nan_guard, "is_read_at_once", lambda device: False)
    few = reads_of_an_epoch(run, *flags, "--data.batch_size=20")  # 2 steps
    many = reads_of_an_epoch(run, *flags, "--data.batch_size=2")  # 20 steps
    assert few == many
    assert few > 0  # the epoch's own figures: else nothing was counted
    assert len(list(Path("lightning_logs").glob("*/*"))) == 2
