"""`fit` with a fault in one process of several: RANK_FAULT holds its rank, a deed and the step; see rank_cli.py."""

import os

from faults.injections import at

from cifar_lightning import process
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.errors import DataError
from cifar_lightning.training.fit import fit  # noqa: F401 -- the verb


def _absent(self: CIFAR10DataModule) -> None:
    raise DataError("no data on this node")


_rank, _deed, _step = os.environ["RANK_FAULT"].split()
if process.rank() == int(_rank) and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
    if _deed == "nodata":
        CIFAR10DataModule.prepare_data = _absent
    else:
        at("on_train_batch_start", int(_step), _deed)
