"""What the processes of one run, one per device, decide, share and sum up together."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor, nn

COMPARE_EVERY = 50  # batches between two decisions of all processes together, which must fall at the same batch


def any_of(trainer: Trainer, decision: bool) -> bool:
    """Whether any process says yes; every process has to ask at the same point."""
    return decision if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(decision, all=False)


def decide(trainer: Trainer, batch_idx: int, decision: bool) -> bool:
    """What is decided after this batch: at once by one process, every `COMPARE_EVERY` batches by several together."""
    if trainer.world_size == 1:
        return decision
    return (batch_idx + 1) % COMPARE_EVERY == 0 and any_of(trainer, decision)


def gathered(own: Any) -> list[Any]:
    """What every process holds (of any type), in the order of their ranks."""
    if not dist.is_available() or not dist.is_initialized():
        return [own]
    everything: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everything, own)
    return everything


def share_buffers(net: nn.Module) -> None:
    """Gives every process rank 0's buffers, such as the running statistics of batch norm: those that are saved."""
    if dist.is_available() and dist.is_initialized():
        for buffer in net.buffers():
            dist.broadcast(buffer, src=0)


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; `value` itself stays."""
    total = value.clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    return total


def random_states() -> list[dict[str, Any]]:
    """The states of every process's random generators, in the order of their ranks, as a checkpoint can hold them."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    own = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        # Plain lists: the safe unpickler knows no numpy scalars and no numpy arrays.
        "numpy": [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }
    return gathered(own)


def restore_random_states(states: dict[str, Any]) -> None:
    """Puts the states of this process back."""
    torch.set_rng_state(states["torch"])
    # On another number of GPUs there is nothing to restore exactly; the run's fingerprint differs anyway.
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
