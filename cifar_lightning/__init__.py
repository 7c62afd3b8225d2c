"""CIFAR-10 experiments on PyTorch Lightning.

The package imports nothing here on purpose: `python -m cifar_lightning --help` answers before torch is loaded.
"""

__version__ = "0.1.0"
