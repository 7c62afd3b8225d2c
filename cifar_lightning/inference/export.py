"""`python -m cifar_lightning export`: a checkpoint as one file that runs without this package."""

import argparse
import contextlib
import copy
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lightning import __version__
from cifar_lightning.data.transforms import Normalize
from cifar_lightning.errors import CheckpointError, ConfigError, OutputError
from cifar_lightning.inference.loading import Trained, official_test
from cifar_lightning.inference.options import Parser, load_predictor
from cifar_lightning.inference.predictor import Predictor


class PictureGraph(nn.Module):
    """The net of a checkpoint in float32 between the normalisation and the softmax.

    Args:
        trained: its net is copied.
        temperature: the logits are divided by it; 1 leaves them.
    """

    def __init__(self, trained: Trained, temperature: float) -> None:
        super().__init__()
        self.net = copy.deepcopy(trained.model.net).float()
        self.normalize = Normalize()
        self.temperature = temperature
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Maps pictures, uint8 (N, 32, 32, 3), to probabilities, float32 (N, C)."""
        inputs = self.normalize(images).permute(0, 3, 1, 2)
        return (self.net(inputs) / self.temperature).softmax(dim=1)


def graph_of(predictor: Predictor) -> PictureGraph:
    """The graph that gives a predictor's probabilities, but for the precision and without views."""
    return PictureGraph(predictor.trained, predictor.temperature or 1.0)


Run = Callable[[Tensor], Tensor]  # uint8 (N, 32, 32, 3) to probabilities float32 (N, C)
Metadata = Mapping[str, str]

INPUT, OUTPUT = "images", "probabilities"
METADATA_FILE = "metadata.json"  # inside of an ExportedProgram's archive

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def check_installed(kind: str) -> None:
    """Before anything is computed.

    Raises:
        ConfigError: a package of the extra is missing.
    """
    if kind != "onnx":
        return
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise ConfigError(
                f"export --format onnx needs the package {package}: install the extra with pip install -e '.[export]'"
            ) from error


def render(kind: str, graph: nn.Module, metadata: Metadata) -> bytes:
    """The content of a file, for a batch of any size.

    Args:
        kind: 'onnx' or 'torch'.
        graph: maps uint8 (N, 32, 32, 3) to float32 (N, C).
        metadata: texts by their names, which go into the file.
    """
    example = (torch.zeros(2, 32, 32, 3, dtype=torch.uint8),)  # not one: a size of 1 would be taken for a constant
    with _quiet():
        program = torch.export.export(graph, example, dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}})
        for node in program.graph.nodes:  # where the exporting machine keeps its source is nobody's business
            node.meta.pop("stack_trace", None)
        if kind == "torch":
            stream = io.BytesIO()
            torch.export.save(program, stream, extra_files={METADATA_FILE: json.dumps(dict(metadata))})
            return stream.getvalue()
        converted = torch.onnx.export(
            program, (), input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
        )
    assert converted is not None
    model = converted.model
    for node in model.graph:
        node.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    content: bytes = converted.model_proto.SerializeToString()
    return content


def read(kind: str, path: Path) -> tuple[Run, dict[str, str]]:
    """Loads a file of `render`'s content, as its users will: how to run it, and its metadata."""
    if kind == "torch":
        extra = {METADATA_FILE: ""}
        module = torch.export.load(path, extra_files=extra).module()

        def run_program(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return module(images)

        return run_program, json.loads(extra[METADATA_FILE])
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (probabilities,) = session.run([OUTPUT], {INPUT: np.ascontiguousarray(images.numpy())})
        return torch.from_numpy(probabilities)

    return run, dict(session.get_modelmeta().custom_metadata_map)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters speak to their developers: of passes, of versions, of their own deprecated calls."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    check_installed(options.format)
    predictor = load_predictor(options, accelerator="cpu", precision="32-true")
    trained = predictor.trained
    target = options.output or Path(trained.path.stem + SUFFIXES[options.format])
    if target.is_dir() or not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: {'it is a' if target.is_dir() else 'there is no such'} folder")
    images = official_test(trained, options.root)[0][:CHECKED_IMAGES]
    print(f"weights  {trained}")
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{SUFFIXES[options.format]}")
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
    run, _ = read(kind, path)
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
        return render(kind, graph_of(predictor), metadata_of(predictor))
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
        choices=tuple(SUFFIXES),
        required=True,
        help="onnx, for onnxruntime and others (needs the extra [export]), or torch, an ExportedProgram",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: the checkpoint's name with .onnx or .pt2, in this folder"
    )
    parser.add_argument("--data.root", dest="root", metavar="DIR", help="where CIFAR-10 is, for the comparison")
    return parser.parse(argv)
