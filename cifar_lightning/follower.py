"""Followers: the processes that the Trainer of a first one starts, one for every further device.

They run the same command. The first process owns the run's folder and the console; a follower writes into a scratch
folder and says nothing, so that no other room has to ask which process it runs in. Knows nothing of torch.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

MARK = "CIFAR_LIGHTNING_FIRST_PROCESS"  # set by the first process for those that its Trainer starts


def is_follower() -> bool:
    """Whether this process was started by the Trainer of another one."""
    return MARK in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def announce(checkpoint: Path | None) -> None:
    """Lets the processes that the Trainer will start know that they are followers, and what `--ckpt` means."""
    os.environ[MARK] = str(checkpoint.resolve()) if checkpoint else ""


def announced_checkpoint() -> str:
    """The checkpoint of the first process: 'last' could be another one a moment later."""
    return os.environ[MARK]


def scratch_folder() -> Path:
    """Where a follower writes what the first process writes into the run's folder; removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="cifar-lightning-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
