"""Scorer: gathers a split's logits while Lightning's evaluation loop runs and scores them at its end."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cifar_lightning import distributed, process
from cifar_lightning.metrics import Evaluation, evaluate


class Scored(NamedTuple):
    """The score of a split, with the logits and labels behind it in the order of the split."""

    evaluation: Evaluation
    logits: Tensor  # float32 (N, C)
    labels: Tensor  # int64 (N,)

    def at(self, temperature: float, class_names: Sequence[str]) -> "Scored":
        """The same with the logits divided by a temperature."""
        logits = self.logits / temperature
        return Scored(evaluate(logits, self.labels, class_names), logits, self.labels)


class Scorer(Callback):
    """Holds the score as `scored` after `Trainer.test` or `Trainer.validate`."""

    def __init__(self) -> None:
        self.scored: Scored | None = None
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes SIGTERM back from Lightning, whose handler waits for the other processes."""
        process.handle_signals(process.end, but_ctrl_c=True)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *others: Any, **named: Any
    ) -> None:
        """Keeps a batch's logits and labels, off the device."""
        self._batches.append((outputs["logits"].cpu(), outputs["labels"].cpu()))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores the split as a whole, the parts of all processes together."""
        batches = [batch for part in distributed.gathered(self._batches) for batch in part]
        logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        data = trainer.datamodule  # type: ignore[attr-defined]
        self.scored = Scored(evaluate(logits, labels, data.class_names), logits, labels)

    on_validation_start = on_test_start
    on_validation_batch_end = on_test_batch_end
    on_validation_epoch_end = on_test_epoch_end
