"""What the processes of one run, one per device, decide, share and add up together."""

from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor, nn

# Batches between two comparisons of notes, where every process must come to the same decision at the same batch.
COMPARE_EVERY = 50


def any_of(trainer: Trainer, decision: bool) -> bool:
    """Whether any process says yes; every process has to ask at the same point."""
    return decision if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(decision, all=False)


def is_time_to_compare(trainer: Trainer, batch_idx: int) -> bool:
    """Whether processes may decide something together after this batch; one process alone always may."""
    return trainer.world_size == 1 or (batch_idx + 1) % COMPARE_EVERY == 0


def gathered(own: Any) -> list[Any]:
    """What every process holds (of any type), in the order of their ranks."""
    if not dist.is_available() or not dist.is_initialized():
        return [own]
    everything: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everything, own)
    return everything


def share_buffers(net: nn.Module) -> None:
    """Gives every process the first one's buffers, such as the running statistics of batch norm.

    Each process has its own since its last step, and the first one's are those that are saved.
    """
    if dist.is_available() and dist.is_initialized():
        for buffer in net.buffers():
            dist.broadcast(buffer, src=0)


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; `value` itself stays."""
    total = value.clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    return total
