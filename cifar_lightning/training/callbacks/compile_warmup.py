"""CompileWarmup: torch.compile does its work before the training starts, on random images."""

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.classifier import Classifier


class CompileWarmup(Callback):
    """Runs the compiled net forward and back on random images, in batches as large as those of training and evaluation.

    Weights, running statistics, modes and the random states of CPU and CUDA are put back; the optimizer takes no step.
    Test-time augmentation of unsure images alone has batches of any size, and may compile once more.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compiles."""
        assert isinstance(pl_module, Classifier)
        data = trainer.datamodule  # type: ignore[attr-defined]
        own_batch, ranks = data.batch_size // trainer.world_size, trainer.world_size
        training = _sizes(data.sizes["train"] // ranks, own_batch)
        validation, test = (
            _sizes(images // ranks, data.eval_batch_size) for images in (data.sizes["val"], data.test_images)
        )
        modes = {module: module.training for module in pl_module.modules()}
        saved = {name: value.clone() for name, value in pl_module.net.state_dict().items()}
        devices = [pl_module.device] if pl_module.device.type == "cuda" else []
        with torch.random.fork_rng(devices), trainer.precision_plugin.forward_context():
            for size in training:
                self._run(pl_module, size).backward()
            pl_module.eval()
            # As Lightning evaluates: in inference mode, but not within a training nor where processes talk by gloo.
            with torch.no_grad():
                for size in validation:
                    self._run(pl_module, size)
                with torch.inference_mode(ranks == 1 or pl_module.device.type == "cuda"):
                    for size in test:
                        self._run(pl_module, size)
        for module, mode in modes.items():
            module.training = mode
        pl_module.zero_grad(set_to_none=True)
        pl_module.net.load_state_dict(saved)

    @staticmethod
    def _run(model: Classifier, size: int) -> torch.Tensor:
        images = torch.randn(size, 3, 32, 32, device=model.device).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(size, dtype=torch.int64, device=model.device)
        return F.cross_entropy(model(images), labels)


def _sizes(images: int, batch_size: int) -> list[int]:
    """The sizes of the batches of `images`, the usual one first."""
    return [size for size in (min(batch_size, images), images % batch_size if images > batch_size else 0) if size]
