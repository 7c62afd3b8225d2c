"""The sample: 5,000 training and 1,000 test images of CIFAR-10, class-balanced, as lossless mosaics in this folder.

Figures on the sample are about the sample and nothing else. `benchmarks/make_sample.py` makes the files; ORIGIN.md says
where the images come from.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

FOLDER = Path(__file__).parent
INDEX = FOLDER / "index.json"  # by split and class: the indices of the images in the official order
COLUMNS = 25  # images in a row of a mosaic
SAMPLE_TEST_IMAGES = 1000


class Sample(NamedTuple):
    """A split of the sample, in the official order."""

    images: npt.NDArray[np.uint8]  # (N, 32, 32, 3)
    labels: npt.NDArray[np.int64]  # (N,)
    indices: npt.NDArray[np.int64]  # (N,), of each image in the official split
    class_names: tuple[str, ...]


def mosaic_path(split: str, class_name: str) -> Path:
    """The file with the images of a class in the 'train' or 'test' split."""
    return FOLDER / f"{split}_{class_name}.webp"


def load_sample(train: bool) -> Sample:
    """Decodes the training or the test images of the sample."""
    split = "train" if train else "test"
    chosen: dict[str, list[int]] = json.loads(INDEX.read_text(encoding="utf-8"))[split]
    images, labels, indices = [], [], []
    for label, (name, of_class) in enumerate(chosen.items()):
        with Image.open(mosaic_path(split, name)) as mosaic:
            pixels = np.asarray(mosaic.convert("RGB"))
        tiles = pixels.reshape(len(of_class) // COLUMNS, 32, COLUMNS, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
        images.append(tiles)
        labels += [label] * len(of_class)
        indices += of_class
    order = np.argsort(indices)
    return Sample(
        np.concatenate(images)[order], np.asarray(labels, np.int64)[order], np.asarray(indices, np.int64)[order],
        tuple(chosen),
    )  # fmt: skip
