"""Reads the official files of CIFAR-10 and CIFAR-100.

torchvision's reader does the same in twice the time; the bytes are the same, which a test compares.
"""

import hashlib
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cifar_lightning.data.layouts import Layout
from cifar_lightning.errors import DataError

THREADS = 2  # MD5 and copies leave Python's lock; with more the disk is the limit


def read_official(folder: Path, layout: Layout, train: bool) -> tuple[Tensor, Tensor]:
    """The training or the test set in `folder`: images, uint8 (N, 32, 32, 3), and labels, int64 (N,), in their order.

    A pickle can run code, so no file is opened as one before its MD5 is right.

    Raises:
        DataError: a file is not the official one.
        OSError: a file cannot be read.
    """
    kinds = ("data_batch", "train") if train else ("test",)
    names = sorted(name for name in layout.files if name.startswith(kinds))
    count = layout.train_images if train else layout.test_images
    images = torch.empty(count, 32, 32, 3, dtype=torch.uint8)  # torch's memory comes in huge pages
    labels = torch.empty(count, dtype=torch.int64)

    def read(name: str, some_images: npt.NDArray[np.uint8], some_labels: npt.NDArray[np.int64]) -> None:
        content = (folder / name).read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != layout.files[name]:
            raise DataError(f"{folder / name} is damaged")
        # Pickles of Python 2: their strings, the images among them, are bytes.
        loaded = pickle.loads(content, encoding="bytes")
        batch: dict[str, Any] = {key if isinstance(key, str) else key.decode(): loaded[key] for key in loaded}
        some_images[:] = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # stored channel by channel
        some_labels[:] = batch["labels" if "labels" in batch else "fine_labels"]

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, names, *(np.split(whole.numpy(), len(names)) for whole in (images, labels))))
    return images, labels
