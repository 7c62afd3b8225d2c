"""CIFAR-10 experiments on PyTorch Lightning.

The package imports nothing here on purpose: `python -m cifar_lightning --help` answers before torch is loaded.
`from cifar_lightning import CIFAR10DataModule, Classifier` loads what it names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_lightning.classifier import Classifier as Classifier
    from cifar_lightning.data.datamodule import CIFAR10DataModule as CIFAR10DataModule

__version__ = "0.1.0"

_HOMES = {"CIFAR10DataModule": "data.datamodule", "Classifier": "classifier"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
