"""Learning rate schedules as pure functions of progress: 0 at the first step of the training, 1 at its end."""

import math
from abc import ABC, abstractmethod

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class ProgressLR(LambdaLR, ABC):
    """Sets the rate before each step to the optimizer's own times `factor(progress)`.

    `span` takes the training's length in optimizer steps. `Classifier` calls it when training starts, with what follows
    from the number of batches that the data really have, so that no config counts steps.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.total_steps: int | None = None
        super().__init__(optimizer, lambda step: self.factor(self._progress(step)))

    @abstractmethod
    def factor(self, progress: float) -> float:
        """The share of the optimizer's own rate at `progress`, from 0 to 1."""

    def span(self, total_steps: int) -> None:
        """Sets the training's length, and the rate of the next step by it."""
        self.total_steps = total_steps
        share = self.factor(self._progress(self.last_epoch))
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = rate * share

    def state_dict(self) -> dict[str, object]:
        """The position without the length: a run that is extended stretches its schedule over the new length."""
        return {name: value for name, value in super().state_dict().items() if name != "total_steps"}

    def _progress(self, step: int) -> float:
        if step == 0:  # asked for when the scheduler is made, before anybody knows the length
            return 0.0
        if self.total_steps is None:
            raise RuntimeError(f"{type(self).__name__} does not know the training's length: call span()")
        return min(step / self.total_steps, 1.0)


class TriangularLR(ProgressLR):
    """Straight up, then straight down; with `peak` 0 a straight line from the full rate down to `end` of it.

    Args:
        optimizer: whose rate is set.
        start: share of the rate that the first step has.
        peak: progress, from 0 to below 1, at which the rate is full.
        end: share of the rate at the end.

    Raises ValueError: a share is out of range.
    """

    def __init__(self, optimizer: Optimizer, start: float = 0.0, peak: float = 0.0, end: float = 0.0) -> None:
        _check(start=start, end=end)
        if not 0 <= peak < 1:
            raise ValueError(f"peak is a point of the training, from 0 to below 1, got {peak}")
        self.start, self.peak, self.end = start, peak, end
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        """From `start` up to 1 at `peak`, then down to `end`."""
        if progress < self.peak:
            return self.start + (1 - self.start) * progress / self.peak
        return 1 + (self.end - 1) * (progress - self.peak) / (1 - self.peak)


class CosineLR(ProgressLR):
    """Straight up, then half a cosine down (Loshchilov and Hutter, arXiv 1608.03983).

    Args:
        optimizer: whose rate is set.
        warmup: progress, from 0 to below 1, at which the rate is full.
        end: share of the rate at the end.

    Raises ValueError: a share is out of range.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.0, end: float = 0.0) -> None:
        _check(end=end)
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is a point of the training, from 0 to below 1, got {warmup}")
        self.warmup, self.end = warmup, end
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        """From 0 up to 1 at `warmup`, then half a cosine down to `end`."""
        if progress < self.warmup:
            return progress / self.warmup
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2


def _check(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a share of the rate, from 0 to 1, got {value}")
