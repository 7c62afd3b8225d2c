"""Two costs of training on a CPU that torch leaves to the environment, taken out before it looks there.

Knows nothing of torch, which reads these settings once, when it is first used.
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Lets the allocator keep the memory of one step for the next, in huge pages (Linux with glibc; else nothing).

    By default every tensor of 32 MiB and more goes back to the system when it is freed, and comes back as pages that
    the kernel has to clear at each step: the large activations of large batches then cost more than what is computed
    with them. `bench` shows the difference: its bare loop runs without this.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's own switch
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def skip_gpu_search() -> None:
    """For a machine without a CUDA GPU: Adam asks for one at every step, and each time torch looks for the driver.

    With no device visible the answer is given at once. Processes that this one starts inherit it.
    """
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
