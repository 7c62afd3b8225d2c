"""Checkpoints as `fit` writes them, without a training: drawn weights of a tiny net."""

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from cifar_lightning.classifier import Classifier
from cifar_lightning.nets.report_cnn import ReportCNN

TINY_NET = {"channels": [4, 4, 8], "hidden_features": [8, 8]}


def tiny_net() -> ReportCNN:
    """A net whose verdicts differ from picture to picture, and are neither sure nor a toss-up."""
    torch.manual_seed(5)
    net = ReportCNN(**TINY_NET)  # type: ignore[arg-type]
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=6 / layer.in_features**0.5)
    return net


def write_checkpoint(path: Path, net: nn.Module | None = None, **changes: Any) -> Path:
    """Writes a checkpoint; returns `path`.

    Args:
        path: of the file.
        net: its weights; by default `tiny_net()`.
        changes: `class_path` and `init_args` of the net, `synthetic`, `precision`.
    """
    settings = {"class_path": "cifar_lightning.nets.report_cnn.ReportCNN", "init_args": TINY_NET}
    settings |= {key: changes[key] for key in settings if key in changes}
    synthetic = changes.get("synthetic", False)
    config = {
        "seed_everything": 7,
        "model": {"net": settings, "channels_last": True},
        "data": {"root": None, "synthetic": synthetic, "val_size": 20, "eval_batch_size": 5},
        "trainer": {"precision": changes.get("precision", "32-true")},
    }
    identity = {"recipe": "tiny", "seed": 7, "source": "CIFAR-10", "synthetic": synthetic}
    content = {
        "state_dict": Classifier(net or tiny_net()).state_dict(),
        "callbacks": {"LearningCurves": {"rows": [{"epoch": 1}, {"epoch": 2}]}},
        "cifar_lightning": {"config": yaml.safe_dump(config), "identity": identity},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path
