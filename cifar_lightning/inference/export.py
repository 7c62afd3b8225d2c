"""`python -m cifar_lightning export`: a checkpoint as one file that runs without this package."""

import argparse
import contextlib
import json
import os
from pathlib import Path

import torch
from torch import Tensor

from cifar_lightning import __version__
from cifar_lightning.errors import CheckpointError, OutputError
from cifar_lightning.inference import formats
from cifar_lightning.inference.dataset import official_test
from cifar_lightning.inference.graph import graph_of
from cifar_lightning.inference.options import Parser, load_predictor
from cifar_lightning.inference.predictor import Predictor

CHECKED_IMAGES = 1000
BATCHES = (1, 2, 7, 490, 500)  # of the images that are compared: the file must take any
# Of a probability. Float32 sums in another order differ by about 1e-6; a wrong layout or scale by far more than this.
TOLERANCE = 1e-4


def main(argv: list[str]) -> int:
    """Writes the file, reads it back, compares it with the net, and only then gives it its name.

    Raises:
        ConfigError: a flag is wrong, or a package of the extra is missing.
        CheckpointError: there is no such checkpoint, or it cannot be used.
        DataError: there are no test images to compare on.
        OutputError: the file cannot be written, or does not give what the net gives.
    """
    options = _parse(argv)
    formats.check_installed(options.format)
    predictor = load_predictor(options, accelerator="cpu", precision="32-true")
    trained = predictor.trained
    target = options.output or Path(trained.path.stem + formats.SUFFIXES[options.format])
    if target.is_dir() or not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: {'it is a' if target.is_dir() else 'there is no such'} folder")
    images = official_test(trained, options.root)[0][:CHECKED_IMAGES]
    print(f"weights  {trained}")
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{formats.SUFFIXES[options.format]}")
    try:
        temporary.write_bytes(_content(options.format, predictor))
        largest, other = compare(options.format, temporary, predictor, images)
        beside = f"{len(images):,} test images of {trained.source}"
        if not largest <= TOLERANCE or other:  # NaN fails too
            raise OutputError(
                f"the {options.format} file differs from the net by {largest:.1e} ({TOLERANCE:.0e} is allowed) and in "
                f"{other} verdicts on {beside}: {target} is not written"
            )
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    calibrated = "" if predictor.temperature is None else f"; calibrated, temperature {predictor.temperature:.3f}"
    print(f"checked  largest difference of a probability {largest:.1e}, the same verdicts: {beside}")
    print(f"written  {target} ({target.stat().st_size:,} bytes, float32{calibrated})")
    return 0


def compare(kind: str, path: Path, predictor: Predictor, images: Tensor) -> tuple[float, int]:
    """Runs a written file and the net on the same images.

    Returns:
        The largest difference of a probability, and in how many images the most likely class is another.
    """
    run, _ = formats.read(kind, path)
    theirs, ours, first = [], [], 0
    while first < len(images):
        for size in BATCHES:
            batch = images[first : first + size]
            if len(batch):
                theirs.append(run(batch))
                ours.append(predictor.probabilities(batch))
            first += size
    difference = (torch.cat(theirs) - torch.cat(ours)).abs()
    other = torch.cat(theirs).argmax(1) != torch.cat(ours).argmax(1)
    return float(difference.max()), int(other.sum())


def metadata_of(predictor: Predictor) -> dict[str, str]:
    """What a file says of itself: how to use it, and which run it comes from. No folder of this machine."""
    trained = predictor.trained
    return {
        "input": "images: uint8 (N, 32, 32, 3), red, green, blue from 0 to 255",
        "output": "probabilities: float32 (N, C), in the order of class_names",
        "class_names": json.dumps(trained.class_names),
        "recipe": trained.recipe,
        "seed": str(trained.seed),
        "trained_on": trained.source,
        "epochs": str(trained.epochs),
        "checkpoint": trained.path.name,
        "checkpoint_sha256": trained.sha256,
        "temperature": repr(predictor.temperature or 1.0),
        "writer": f"cifar_lightning {__version__}, torch {torch.__version__}",
    }


def _content(kind: str, predictor: Predictor) -> bytes:
    try:
        return formats.render(kind, graph_of(predictor), metadata_of(predictor))
    except Exception as error:  # the exporters raise whatever an operator of the net makes them stumble over
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{predictor.trained.path}: its net cannot be written as {kind}: {reason}") from error


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        "export",
        "Write the trained net as one file: uint8 pictures in, probabilities out, a batch of any size. The file is "
        f"read back and compared with the net on {CHECKED_IMAGES:,} test images before it gets its name.",
        "Probabilities are calibrated where `test --calibrate` has fitted a temperature for these very weights.",
    )
    parser.add_argument(
        "--format",
        choices=tuple(formats.SUFFIXES),
        required=True,
        help="onnx, for onnxruntime and others (needs the extra [export]), or torch, an ExportedProgram",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: the checkpoint's name with .onnx or .pt2, in this folder"
    )
    parser.add_argument("--data.root", dest="root", metavar="DIR", help="where CIFAR-10 is, for the comparison")
    return parser.parse(argv)
