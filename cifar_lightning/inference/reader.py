"""Pictures decoded by several threads, handed over in their order."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cifar_lightning.errors import PictureError
from cifar_lightning.inference.picture import Pixels, read_picture

MAX_THREADS = 8  # each may hold a large picture
IN_FLIGHT = 1024  # decoded and not yet taken: 3 MB, and enough to go on with while the net is busy

Outcome = Pixels | PictureError


def read_all(files: Sequence[Path], threads: int | None = None) -> Iterator[Outcome]:
    """Decodes files side by side, for Pillow decodes without holding Python's lock.

    Args:
        files: what to read.
        threads: by default one for each processor, at most `MAX_THREADS`.

    Yields:
        For each file in order its pixels uint8 (32, 32, 3), or why there are none.
    """
    count = threads or min(os.cpu_count() or 1, MAX_THREADS)
    waiting: deque[Future[Outcome]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode")
    try:
        for file in files:
            waiting.append(pool.submit(_read, file))
            if len(waiting) >= IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for what is being decoded and no more


def _read(file: Path) -> Outcome:
    try:
        return read_picture(file)
    except PictureError as error:
        return error
