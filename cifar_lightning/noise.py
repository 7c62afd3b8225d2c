"""What libraries print that a user can do nothing about, left out."""

import logging
import os
import warnings


def quieten() -> None:
    """Leaves out adverts, devices that are not there, and warnings of what is meant to be so."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # compiling for a CPU needs no CUDA
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for message in (
        ".*does not have many workers.*",  # our loaders have none on purpose
        ".*smaller than the logging interval.*",  # nothing is logged by step
        ".*Checkpoint directory .* exists and is not empty.*",  # on a resume it should
        ".*no `val_dataloader`.*",  # data.val_size 0 says so itself
        ".*could not find the monitored key.*val/accuracy.*",  # an epoch without validation has no best
        ".*dirpath has changed.*",  # a new run that starts from another run's checkpoint
        ".*isinstance.treespec, LeafSpec.*",  # between Lightning and torch
        ".*WeightAveraging doesn't support sharding.*",  # nothing is sharded here
        ".*Total length of `.*` across ranks is zero.*",
        ".*sync_dist=True.*",  # our figures are sums over all processes already
    ):
        warnings.filterwarnings("ignore", message)
