"""CompileWarmUp: torch.compile does its work before the training starts, on data that mean nothing."""

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.classifier import Classifier


class CompileWarmUp(Callback):
    """Runs the compiled net forward and back on random images of each size that will come, and leaves no trace.

    Weights, running statistics and random states are put back; the optimizer takes no step.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compiles."""
        assert isinstance(pl_module, Classifier)
        data = trainer.datamodule  # type: ignore[attr-defined]
        own_batch, images = data.batch_size // trainer.world_size, data.sizes["train"] // trainer.world_size
        saved = {name: value.clone() for name, value in pl_module.net.state_dict().items()}
        devices = [pl_module.device] if pl_module.device.type == "cuda" else []
        with torch.random.fork_rng(devices), trainer.precision_plugin.forward_context():
            for size in {own_batch, images % own_batch} - {0}:
                self._run(pl_module, size).backward()
            pl_module.eval()
            with torch.no_grad():
                self._run(pl_module, data.eval_batch_size)
        pl_module.train()
        pl_module.zero_grad(set_to_none=True)
        pl_module.net.load_state_dict(saved)

    @staticmethod
    def _run(model: Classifier, size: int) -> torch.Tensor:
        images = torch.randn(size, 3, 32, 32, device=model.device).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(size, dtype=torch.int64, device=model.device)
        return F.cross_entropy(model(images), labels)
