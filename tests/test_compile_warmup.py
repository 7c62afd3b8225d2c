"""CompileWarmup: every size of batch is seen before the training, and nothing of it is left."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from cifar_lightning.classifier import Classifier
from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.training.callbacks.compile_warmup import CompileWarmup


class Noting(nn.Module):
    """A net that notes each batch's size, its mode, and the precision of what it gives."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.seen: list[tuple[int, str, torch.dtype]] = []

    def forward(self, images: Tensor) -> Tensor:
        """As the net."""
        logits = self.net(images)
        mode = "train" if self.training else "inference" if images.is_inference() else "evaluation"
        self.seen.append((len(images), mode, logits.dtype))
        return logits


@pytest.fixture
def trainer() -> Trainer:
    data = SimpleNamespace(batch_size=8, eval_batch_size=20, sizes={"train": 44, "val": 12}, test_images=50)
    settings = SimpleNamespace(
        datamodule=data, world_size=1, precision_plugin=MixedPrecision("bf16-mixed", device="cpu")
    )
    return cast(Trainer, settings)


def test_each_size_is_run_in_the_trainings_precision_and_no_trace_is_left(trainer: Trainer, seeded: None) -> None:
    net = Noting(ReportCNN(channels=(4, 4, 4), hidden_features=(8,)))
    model = Classifier(net).train()
    model.net.net.layers.dense1.eval()
    modes = [module.training for module in model.modules()]
    before: dict[str, Any] = {name: value.clone() for name, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    CompileWarmup().on_train_start(trainer, model)
    low = torch.bfloat16
    # The usual batch of the training first, then what is left over; then those of validation and test.
    sizes_and_modes = [(8, "train"), (4, "train"), (12, "evaluation"), (20, "inference"), (10, "inference")]
    assert net.seen == [(size, mode, low) for size, mode in sizes_and_modes]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in net.parameters())
