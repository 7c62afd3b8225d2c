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
from typing import NamedTuple

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
KEPT_BYTES = (2**30, 2**25)  # glibc before 2.35 takes no more than 32 MiB
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


class Launcher(NamedTuple):
    """What torchrun or srun says of the processes that it has started."""

    name: str
    rank: int  # of this process
    devices: int  # processes on each node
    num_nodes: int


def launcher() -> Launcher | None:
    """Who has started the processes of this run; None where Lightning starts them, or there is one.

    A job's variables without srun (in sbatch's script, or left in a shell) say nothing about this process.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        rank, world_size, devices = (int(env[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return Launcher("torchrun", rank, devices, world_size // devices)
    if (tasks := int(env.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
        num_nodes = int(env["SLURM_STEP_NUM_NODES"])
        return Launcher("srun", int(env["SLURM_PROCID"]), tasks // num_nodes, num_nodes)
    return None


def rank() -> int:
    """0 in the process that writes and prints; known before torch is loaded."""
    if found := launcher():
        return found.rank
    # Lightning sets LOCAL_RANK for the processes that it starts; NODE_RANK is set by hand on each node.
    return int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("NODE_RANK", "0"))


def is_rank_zero() -> bool:
    """Whether this process writes and prints."""
    return rank() == 0


def scratch_folder() -> Path:
    """Where another rank writes what rank 0 writes into the run's folder; removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="cifar-lightning-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def silence_known_warnings() -> None:
    """Leaves out adverts, devices that are not there, and warnings of what is meant to be so."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # a profiler's table is one of its messages
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
        ".*The `srun` command is available.*",  # a plain fit needs none
        r".*add the following callbacks: \['InNoHurry'\].*",  # a callback of older checkpoints
    ):
        warnings.filterwarnings("ignore", message)
