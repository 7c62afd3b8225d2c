"""What is set for the whole process: the allocator, the search for GPUs, its rank, and warnings that are left out."""

import atexit
import ctypes
import errno
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from cifar_lightning.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
KEPT_BYTES = (2**30, 2**25)  # glibc before 2.35 takes no more than 32 MiB
PER_NODE = "CIFAR_LIGHTNING_PER_NODE"  # how many processes Lightning starts on a node; set for them
# Each of them asks a run to end: those of Ctrl-C and kill, of a terminal that closes, of Slurm's --signal.
_POSIX = ("SIGHUP", "SIGUSR1", "SIGUSR2")  # a terminal that closes, and what Slurm's --signal is mostly asked to send
STOPPING = (signal.SIGINT, signal.SIGTERM, *(getattr(signal, name) for name in _POSIX if hasattr(signal, name)))
scratch_folders: list[Path] = []
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
    world_size: int
    num_nodes: int

    @property
    def devices(self) -> int:
        """The processes of each node."""
        return self.world_size // self.num_nodes


def launcher() -> Launcher | None:
    """The launcher of this process's run; None where one process was started, or Lightning starts the others.

    A job's variables without srun (sbatch's script, a shell of salloc) say nothing about this process; a step of one
    task, such as a shell, has no others.

    Raises ConfigError: a variable of theirs is missing, or no number.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        return Launcher("torchrun", *map(_number, ("RANK", "WORLD_SIZE", "GROUP_WORLD_SIZE")))
    if "SLURM_STEP_ID" not in env or _number("SLURM_STEP_NUM_TASKS", "1") == 1:
        return None
    return Launcher("srun", *map(_number, ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES")))


def rank() -> int:
    """This process's number among those of its run; known before torch is loaded. Raises ConfigError as `launcher`."""
    found = launcher()
    if found is not None:
        return found.rank
    node, local, per_node = (_number(name, "0") for name in ("NODE_RANK", "LOCAL_RANK", PER_NODE))
    return node * max(1, per_node) + local


def _number(name: str, default: str | None = None) -> int:
    value = os.environ.get(name, default)
    if value is None or not value.isdecimal():
        seen = "is not set" if value is None else f"is {value!r}"
        raise ConfigError(
            f"the environment variable {name} {seen}, which holds a number where torchrun or srun starts a run; "
            "unset these variables to train in one process"
        )
    return int(value)


def is_rank_zero() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def has_agent_store() -> bool:
    """Whether torchrun's agent keeps a store of keys, which outlives the processes."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def has_peers() -> bool:
    """Whether other processes may wait for this one."""
    found = launcher()
    return found.world_size > 1 if found else "LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ


def handle_signals(handler: Callable[[int, Any], None] | signal.Handlers, but_ctrl_c: bool = False) -> dict[int, Any]:
    """Sets the handler of every signal that asks to stop; returns the earlier ones. Under `nohup` SIGHUP stays ignored.

    Args:
        handler: as `signal.signal` takes it.
        but_ctrl_c: leave Ctrl-C as it is, Python's KeyboardInterrupt.
    """
    signals = [signum for signum in STOPPING[but_ctrl_c:] if signal.getsignal(signum) != signal.SIG_IGN]
    return {signum: signal.signal(signum, handler) for signum in signals}


def end(signum: int, frame: Any) -> None:
    """A handler that ends what runs now, in order."""
    if signum == getattr(signal, "SIGHUP", None):
        leave_closed_terminal()
    raise SystemExit(128 + signum)


@contextmanager
def default_signals() -> Iterator[None]:
    """For waiting in C++, where no handler of Python's can run: a signal ends the process at once."""
    earlier = handle_signals(signal.SIG_DFL)
    try:
        yield
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler)


@contextmanager
def terminal_may_close() -> Iterator[None]:
    """For output during a training: a signal is to end it, and not the failure of a write.

    A terminal that closes sends one; the reader of a pipe (`fit | head`) does not, so that it comes from here.
    """
    try:
        yield
    except BrokenPipeError:
        _write_nowhere(sys.stdout)
        signal.raise_signal(getattr(signal, "SIGHUP", signal.SIGTERM))
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        leave_closed_terminal()


def leave_closed_terminal() -> None:
    """After a SIGHUP: where standard output or error was the terminal that is gone, writing would fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            os.write(stream.fileno(), b"")
        except OSError:
            _write_nowhere(stream)


def _write_nowhere(stream: TextIO) -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def scratch_folder() -> Path:
    """Where another rank writes what rank 0 writes into the run's folder; removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="cifar-lightning-"))
    scratch_folders.append(folder)
    return folder


@atexit.register
def remove_scratch_folders() -> None:
    """What this process will write no more."""
    while scratch_folders:
        shutil.rmtree(scratch_folders.pop(), ignore_errors=True)


def silence_known_warnings() -> None:
    """Leaves out adverts, devices that are not there, and warnings of what is meant to be so."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # a profiler's table is one of its messages
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each of its tries; the last one becomes our line
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it makes do with a home that cannot be written
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
        ".*default weight initialization of .* will be changed in future releases of torchvision.*",
        ".*The `srun` command is available.*",  # a job's script and a shell on a cluster need none
        r".*add the following callbacks: \['InNoHurry'\].*",  # a callback of older checkpoints
    ):
        warnings.filterwarnings("ignore", message)
