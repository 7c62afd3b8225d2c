"""The page's two figures that show pictures of the data set: samples of each class, and the worst mistakes."""

import io
import itertools
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from cifar_lightning import pictures
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.errors import DataError
from cifar_lightning.study.found import FoundRun
from cifar_lightning.study.report import FIGURES

LARGEST_BYTES = 300_000  # what a repository should hold of one picture
SAMPLES_PER_CLASS = 6


def draw_photographs(config: dict[str, Any], shown: FoundRun | None, published: Path | None) -> dict[str, bytes]:
    """`samples.png` and `mistakes.png`, as far as they can be had.

    Args:
        config: the reference's resolved configuration: which data set it is and where.
        shown: the run whose mistakes are shown.
        published: a published study's folder, which holds the pictures for a machine without data set or run folder.
    """
    files = {}
    if (samples := _samples(config["data"])) is not None:
        files["samples.png"] = samples
    if shown is not None and shown.mistakes is not None:
        files["mistakes.png"] = shrink(shown.mistakes.read_bytes())
    if published is not None:
        for name in ("samples.png", "mistakes.png"):
            path = published / FIGURES / name
            if name not in files and path.is_file() and (name != "mistakes.png" or shown is not None):
                files[name] = path.read_bytes()
    return files


def shrink(png: bytes, largest: int = LARGEST_BYTES) -> bytes:
    """The picture in fewer colours, and if need be with fewer pixels, if it is larger than `largest` bytes."""
    smaller = png
    for parts, colours in itertools.product((1, 2, 4, 8), (256, 64, 16)):
        if len(smaller) <= largest:
            break
        image = Image.open(io.BytesIO(png)).convert("RGB")
        image = image.resize((max(image.width // parts, 1), max(image.height // parts, 1)))
        buffer = io.BytesIO()
        image.quantize(colours).save(buffer, format="png", optimize=True)
        smaller = buffer.getvalue()
    return smaller


def _samples(settings: dict[str, Any]) -> bytes | None:
    """None where the data set is not on this machine: nothing is downloaded for a picture."""
    data = CIFAR10DataModule(root=settings["root"], synthetic=settings["synthetic"], val_size=0)
    try:
        data.setup("fit")
    except DataError:
        return None
    return shrink(_png(pictures.sample_grid(*data.images_of("train"), data.class_names, SAMPLES_PER_CLASS)))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
