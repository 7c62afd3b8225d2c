"""Two costs of training on a CPU that torch leaves to the environment, taken out before it looks there.

Knows nothing of torch, which reads these settings once, when it is first used.
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
KEPT_BYTES = (2**30, 2**25)  # glibc before 2.35 takes no more than 32 MiB
set_here: set[str] = set()  # names of the environment variables that are ours and not the user's


def keep_freed_memory() -> None:
    """Lets the allocator keep the memory of one step for the next, in huge pages (Linux with glibc; else nothing).

    By default every tensor of 32 MiB and more goes back to the system when it is freed, and comes back as pages that
    the kernel has to clear at each step, which the large activations of large batches pay for.
    `python -m benchmarks bench` shows the difference: it times its bare loop with and without this.
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
