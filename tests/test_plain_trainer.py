"""Classifier and CIFAR10DataModule in a plain `lightning.Trainer`, as a Lightning user expects them."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data.official_format import TinyDataset
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch import nn

from cifar_lightning import CIFAR10DataModule, Classifier
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.nets.resnet import ResNet18
from cifar_lightning.nets.tta import TTA


def classifier(**settings: Any) -> Classifier:
    return Classifier(ReportCNN(channels=(4, 4, 8), hidden_features=(8, 8)), **settings)


def trainer(folder: Path, **settings: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": CSVLogger(folder)}
    return Trainer(**{"max_epochs": 2, "accelerator": "cpu", "default_root_dir": folder, **quiet, **settings})


@pytest.fixture
def data(tiny_cifar10: TinyDataset) -> CIFAR10DataModule:
    return CIFAR10DataModule(batch_size=8, val_size=20, eval_batch_size=5)


def test_metrics_reach_loggers_results_and_monitors(data: CIFAR10DataModule, tmp_path: Path) -> None:
    model, used = classifier(), trainer(tmp_path)
    used.fit(model, datamodule=data)
    names = {f"{split}/{name}" for split in ("train", "val") for name in ("loss", "accuracy")}
    assert names <= used.logged_metrics.keys() & used.callback_metrics.keys() & used.progress_bar_metrics.keys()
    folder = Path(str(used.logger.log_dir))  # type: ignore[union-attr]
    rows = [row for row in csv.DictReader((folder / "metrics.csv").open(encoding="utf-8")) if row["train/loss"]]
    assert [int(row["step"]) for row in rows] == [4, 9]  # 40 images in batches of 8
    assert "batch_size: 8" in (folder / "hparams.yaml").read_text(encoding="utf-8")
    (tested,) = used.test(model, datamodule=data, verbose=False)
    assert tested == pytest.approx({"test/loss": tested["test/loss"], "test/accuracy": tested["test/accuracy"]})
    (validated,) = used.validate(model, datamodule=data, verbose=False)
    assert validated["val/accuracy"] == pytest.approx(model.val_metrics.compute()["accuracy"])


def test_predict_gives_logits_in_the_official_order(data: CIFAR10DataModule, tmp_path: Path) -> None:
    model, used = classifier(), trainer(tmp_path)
    batches: Any = used.predict(model, datamodule=data)
    assert [tuple(batch.shape) for batch in batches] == [(5, 10), (5, 10), (2, 10)]
    labels = torch.cat([labels for _, labels in data.test_dataloader()])
    (tested,) = used.test(model, datamodule=data, verbose=False)
    assert tested["test/accuracy"] == pytest.approx((torch.cat(batches).argmax(1) == labels).float().mean().item())


def test_a_checkpoint_is_loaded_without_giving_the_net_again(data: CIFAR10DataModule, tmp_path: Path) -> None:
    settings: Any = {"label_smoothing": 0.1, "input_size": 48, "freeze": ["stage1"], "tta": TTA("flip", 0.9)}
    # With fewer channels torch 2.14 crashes on some AMD processors: a 1x1 convolution of stride 2 on 48 pixels.
    model, used = Classifier(ResNet18(width=16), **settings), trainer(tmp_path)
    data.augment = Augmentation(flip="random")
    used.fit(model, datamodule=data)
    path = used.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    loaded = Classifier.load_from_checkpoint(path)
    assert (loaded.label_smoothing, loaded.tta) == (0.1, TTA("flip", 0.9))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.eval()(images), model.eval()(images))  # input_size is in
    assert [name for name, weight in loaded.net.named_parameters() if not weight.requires_grad] == [
        name for name, weight in model.net.named_parameters() if not weight.requires_grad
    ]
    assert all(torch.equal(value, model.net.state_dict()[name]) for name, value in loaded.net.state_dict().items())
    assert CIFAR10DataModule.load_from_checkpoint(path).batch_size == 8
    trainer(tmp_path).fit(loaded, datamodule=data)  # nothing of the old training is put back


def test_a_checkpoint_of_fit_is_loaded_too(fit: Callable[..., tuple[Path, str]]) -> None:
    folder, _ = fit("--trainer.max_epochs=1")
    loaded = Classifier.load_from_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert loaded.net.arguments["channels"] == [4, 4, 8]


def test_a_foreign_net_has_to_be_given(data: CIFAR10DataModule, tmp_path: Path) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))

    used = trainer(tmp_path, max_epochs=1)
    used.fit(Classifier(net()), datamodule=data)
    path = used.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"Sequential\) is none of cifar_lightning.nets: give net="):
        Classifier.load_from_checkpoint(path)
    Classifier.load_from_checkpoint(path, net=net())


class Watch(Callback):
    """Notes the labels of every training batch and the weights after it."""

    def __init__(self) -> None:
        self.labels: list[list[int]] = []
        self.weights: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        self.labels.append(batch[1].tolist())
        self.weights.append(float(sum(parameter.double().sum() for parameter in pl_module.parameters())))


def test_overfit_batches_repeats_the_same_batches(data: CIFAR10DataModule, tmp_path: Path) -> None:
    used = trainer(tmp_path, overfit_batches=2, callbacks=[watch := Watch()])
    used.fit(classifier(), datamodule=data)
    assert watch.labels[:2] == watch.labels[2:]
    assert len(watch.labels) == 4


def test_a_resume_goes_on_with_dropouts_random_numbers(data: CIFAR10DataModule, tmp_path: Path) -> None:
    seed_everything(1, verbose=False)
    used = trainer(tmp_path, max_epochs=3, callbacks=[whole := Watch()])
    used.fit(classifier(), datamodule=data)
    seed_everything(1, verbose=False)
    used = trainer(tmp_path, max_epochs=1)
    used.fit(classifier(), datamodule=data)
    path = used.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    torch.rand(7)
    used = trainer(tmp_path, max_epochs=3, callbacks=[resumed := Watch()])
    used.fit(classifier(), datamodule=CIFAR10DataModule(batch_size=8, val_size=20), ckpt_path=path)
    assert resumed.weights == whole.weights[5:]


@pytest.mark.parametrize("as_callback", [False, True])
def test_the_rate_finder_finds_a_rate_that_training_takes(
    data: CIFAR10DataModule, tmp_path: Path, as_callback: bool
) -> None:
    model = classifier(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=123.0))
    finder = LearningRateFinder(num_training_steps=30, early_stop_threshold=None)
    used = trainer(tmp_path, max_epochs=10, callbacks=[finder] if as_callback else [])
    if not as_callback:
        Tuner(used).lr_find(model, datamodule=data, num_training=30, early_stop_threshold=None)
    assert as_callback or 1e-8 < float(str(model.lr)) < 1
    used.fit(model, datamodule=data)
    assert used.optimizers[0].param_groups[0]["lr"] == model.lr


IMPORTS = """
import logging, os, signal, sys
{first}
def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals() if number not in (9, 19)]
    return handlers, dict(os.environ), logging.root.level, {{name: logging.getLogger(name).level for name in NAMES}}
NAMES = ("lightning", "lightning.pytorch", "lightning.fabric", "torch.utils.cpp_extension")
before = state()
{then}
assert state() == before
"""


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("", "import cifar_lightning; assert 'torch' not in sys.modules"),
        ("import lightning.pytorch, torch, torchvision", "from cifar_lightning import CIFAR10DataModule, Classifier"),
    ],
)
def test_an_import_changes_nothing_of_the_process(first: str, then: str) -> None:
    subprocess.run([sys.executable, "-c", IMPORTS.format(first=first, then=then)], check=True)
