"""NanGuard: no weight is ever updated by a loss or a gradient that is not a finite number."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from cifar_lightning.errors import NonFiniteError


def is_read_at_once(device: torch.device) -> bool:
    """Whether a flag on `device` can be read without waiting: the CPU's lies in the memory that Python reads."""
    return device.type == "cpu"


class NanGuard(Callback):
    """Checks loss and gradients before every step of the optimizer; several processes decide together.

    On a CPU the first bad batch ends the run before its step. On a GPU reading a flag at every step would wait for all
    that is under way. There the device itself puts the weights back to what they were before the step wherever the flag
    is set, and it stays set: all later steps come to nothing. `check` reads it, whenever the bar is drawn, at the end
    of each epoch, before a validation and before every save; so no file holds what came after the bad batch: no
    weights, no state of the optimizer, no running statistics of batch norm.

    To stand before the callbacks that write and save.
    """

    def __init__(self) -> None:
        self._parameters: list[Tensor] = []
        self._before: list[Tensor] = []  # the weights before a step, on a device whose flag is not read
        self._losses: list[Tensor] = []  # since the last step: more than one where gradients are added up

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the flag, and room for the weights where they may have to be put back."""
        device, optimizer = pl_module.device, trainer.optimizers[0]
        self._found = torch.zeros((), device=device)  # 1 from the first bad batch on
        self._found_here = self._found.numpy() if is_read_at_once(device) else None  # the same memory
        self._one = torch.ones((), device=device)
        self._first_bad = torch.full((), -1, device=device)  # the batch's number
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._losses = []
        if self._found_here is None:
            self._before = [torch.empty_like(parameter) for parameter in self._parameters]
            optimizer.register_step_post_hook(self._put_back)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Notes the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Checks them in one pass over the gradients. On a CPU raises NonFiniteError before the step."""
        suspects = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        # float16's loss scale overflows now and then by design: its scaler leaves such steps out by itself.
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            suspects = []
        suspects += self._losses
        # torch's own scaler checks with this: it sets the flag, never clears it, and multiplies by one.
        torch._amp_foreach_non_finite_check_and_unscale_(suspects, self._found, self._one)
        if trainer.world_size > 1:
            dist.all_reduce(self._found, op=dist.ReduceOp.MAX)
        batch_idx = trainer.fit_loop.batch_idx
        if self._found_here is None:
            is_first = (self._first_bad < 0) & (self._found > 0)
            self._first_bad = torch.where(is_first, batch_idx, self._first_bad)
            with torch.no_grad():
                torch._foreach_copy_(self._before, self._parameters)
        elif self._found_here:
            self._first_bad.fill_(batch_idx)  # for whoever wants to save in spite of the error
            finite = all(bool(loss.isfinite()) for loss in self._losses)
            raise self._error(trainer, batch_idx, "a gradient" if finite else "the loss")
        self._losses = []

    def check(self, trainer: Trainer) -> None:
        """Waits for the flag. Raises NonFiniteError after a bad batch; the weights are those before it."""
        if self._parameters and (batch_idx := int(self._first_bad)) >= 0:
            raise self._error(trainer, batch_idx, "the loss or a gradient")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bad weights are not worth a validation."""
        self.check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the epoch's row is written."""
        self.check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Before every save."""
        self.check(trainer)

    def _put_back(self, optimizer: Optimizer, arguments: Any, settings: Any) -> None:
        """After a step, on the device alone: where the flag is set, the weights of before it."""
        is_bad = self._found > 0
        with torch.no_grad():
            for parameter, before in zip(self._parameters, self._before, strict=True):
                torch.where(is_bad, before, parameter, out=parameter)

    def _error(self, trainer: Trainer, batch_idx: int, what: str) -> NonFiniteError:
        summed = trainer.accumulate_grad_batches
        aside = f" (or one of the {summed - 1} before it, whose gradients are added up)" if summed > 1 else ""
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        return NonFiniteError(
            f"{what} of batch {batch_idx + 1} of epoch {trainer.current_epoch + 1}{aside} is not a finite number; the "
            "weights were not updated by it and no checkpoint holds it; try a lower --model.optimizer.lr "
            f"(it was {float(rate):g})"
        )
