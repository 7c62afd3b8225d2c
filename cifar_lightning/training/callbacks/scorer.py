"""Scorer: gathers a split's logits while Lightning's evaluation loop runs and scores them at its end."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cifar_lightning import distributed
from cifar_lightning.metrics import Evaluation, evaluate


class Scorer(Callback):
    """After `Trainer.test` or `Trainer.validate`: `evaluation`, and the logits behind it for pictures."""

    def __init__(self) -> None:
        self.logits = torch.empty(0)  # float32 (N, C), in the order of the split
        self.labels = torch.empty(0, dtype=torch.int64)
        self.evaluation: Evaluation | None = None
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a batch's logits and labels, off the device."""
        self._batches.append((outputs["logits"].cpu(), outputs["labels"].cpu()))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """The same, for `Trainer.validate`; the validation inside of `fit` needs no logits."""
        if trainer.state.fn != "fit":
            self.on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores the split as a whole, the parts of all processes together."""
        batches = [batch for part in distributed.gathered(self._batches) for batch in part]
        self.logits = torch.cat([logits for logits, _ in batches])
        self.labels = torch.cat([labels for _, labels in batches])
        self._batches = []
        data = trainer.datamodule  # type: ignore[attr-defined]
        self.evaluation = evaluate(self.logits, self.labels, data.class_names)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same, for `Trainer.validate`."""
        if trainer.state.fn != "fit":
            self.on_test_epoch_end(trainer, pl_module)
