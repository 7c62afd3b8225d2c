"""What is set for the whole process: the allocator, the search for GPUs, its rank, and warnings that are left out."""

import atexit
import ctypes
import logging
import os
import platform
import shutil
import tempfile
import warnings
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
KEPT_BYTES = (2**30, 2**25)  # glibc before 2.35 takes no more than 32 MiB
RANK_ZERO_CHECKPOINT = "CIFAR_LIGHTNING_FIRST_PROCESS"  # rank 0 sets it for the processes that its Trainer starts
set_here: set[str] = set()  # names of the environment variables that are ours and not the user's


def keep_freed_memory() -> None:
    """Lets the allocator keep the memory of one step for the next, in huge pages (Linux with glibc; else nothing).

    By default every tensor of 32 MiB and more goes back to the system when it is freed, and comes back as pages that
    the kernel has to clear at each step, which the large activations of large batches pay for.
    `python -m benchmarks bench` times its bare loop with and without this.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    _set("THP_MEM_ALLOC_ENABLE", "1")  # torch's own switch
    libc = ctypes.CDLL(None)
    # Either setting alone makes matters worse: it ends glibc's own adapting of the other.
    if any(libc.mallopt(M_MMAP_THRESHOLD, size) for size in KEPT_BYTES):
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES[0])


def skip_gpu_search() -> None:
    """For a machine without a CUDA GPU: Adam asks for one at every step, and each time torch looks for the driver.

    With no device visible the answer is given at once. Processes that this one starts inherit it.
    """
    _set("CUDA_VISIBLE_DEVICES", "")


def _set(name: str, value: str) -> None:
    if name not in os.environ:
        os.environ[name] = value
        set_here.add(name)


def is_rank_zero() -> bool:
    """Whether this process is the one that the user started, which writes and prints; known before torch is loaded."""
    return RANK_ZERO_CHECKPOINT not in os.environ or os.environ.get("LOCAL_RANK", "0") == "0"


def announce(checkpoint: Path | None) -> None:
    """Tells the processes that the Trainer will start that they are not rank 0, and what `--ckpt` means."""
    os.environ[RANK_ZERO_CHECKPOINT] = str(checkpoint.resolve()) if checkpoint else ""


def announced_checkpoint() -> str:
    """The checkpoint of rank 0: 'last' could be another one a moment later."""
    return os.environ[RANK_ZERO_CHECKPOINT]


def scratch_folder() -> Path:
    """Where another rank writes what rank 0 writes into the run's folder; removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="cifar-lightning-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def silence_known_warnings() -> None:
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
        r".*add the following callbacks: \['InNoHurry'\].*",  # a callback of older checkpoints
    ):
        warnings.filterwarnings("ignore", message)
