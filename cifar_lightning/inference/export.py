"""`python -m cifar_lightning export`: a checkpoint as one file that runs without this package."""

import argparse
import contextlib
import copy
import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lightning import __version__
from cifar_lightning.data.sample import load_sample
from cifar_lightning.data.transforms import Normalize
from cifar_lightning.errors import CheckpointError, ConfigError, OutputError
from cifar_lightning.inference.options import Parser, load_predictor
from cifar_lightning.inference.predictor import Predictor
from cifar_lightning.runs import run_dir
from cifar_lightning.runs.atomic import write_bytes

Run = Callable[[Tensor], Tensor]  # uint8 (N, 32, 32, 3) to probabilities float32 (N, C)

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
INPUT, OUTPUT = "images", "probabilities"
METADATA_FILE = "metadata.json"  # inside of an ExportedProgram's archive
# Of a probability. Float32 sums in another order differ by about 1e-6; a wrong layout or scale by far more than this.
TOLERANCE = 1e-4


def main(argv: list[str]) -> int:
    """Makes the file's content, loads it, compares it with the net, and only then writes the file.

    Raises:
        UserError: a flag or the checkpoint is wrong, a package of the extra is missing, or the file cannot be written
            or does not give what the net gives.
    """
    options = _parse(argv)
    predictor = load_predictor(options, accelerator="cpu", precision="32-true")
    trained = predictor.trained
    folder = run_dir.run_of(trained.path)
    parts = (trained.recipe, *([folder.name] if folder else []), trained.path.stem)
    target = options.output or Path("-".join(parts) + SUFFIXES[options.format])
    if target.is_dir() or not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: {'it is a' if target.is_dir() else 'there is no such'} folder")
    images = torch.from_numpy(load_sample(train=False).images)
    print(f"weights  {trained}")
    try:
        content = export_net(options.format, ExportedNet(predictor), metadata_of(predictor))
    except Exception as error:  # the exporters raise whatever an operator of the net makes them stumble over
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{trained.path}: its net cannot be written as {options.format}: {reason}") from error
    run, _ = load_exported(options.format, content)
    batches = images.tensor_split((1, 3, 10, 500))  # the file must take any size
    theirs = torch.cat([run(batch) for batch in batches])
    ours = torch.cat([predictor.probabilities(batch) for batch in batches])
    largest, other = float((theirs - ours).abs().max()), int((theirs.argmax(1) != ours.argmax(1)).sum())
    beside = f"{len(images):,} test images of the sample in the package"
    if not largest <= TOLERANCE or other:  # NaN fails too
        raise OutputError(
            f"the {options.format} file differs from the net by {largest:.1e} ({TOLERANCE:.0e} is allowed) and in "
            f"{other} predicted classes on {beside}: {target} is not written"
        )
    write_bytes(target, content)
    calibrated = "" if predictor.temperature is None else f"; calibrated, temperature {predictor.temperature:.3f}"
    print(f"checked  largest difference of a probability {largest:.1e}, the same predicted classes: {beside}")
    print(f"written  {target} ({len(content):,} bytes, float32{calibrated})")
    return 0


class ExportedNet(nn.Module):
    """What a predictor computes of a batch, as one graph in float32: normalisation, net and softmax; no other views."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.net = copy.deepcopy(predictor.trained.model.net).float()
        self.temperature = predictor.temperature or 1.0
        self.normalize = Normalize(predictor.trained.dataset)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images, uint8 (N, 32, 32, 3), to probabilities, float32 (N, C)."""
        inputs = self.normalize(images).permute(0, 3, 1, 2)
        return (self.net(inputs) / self.temperature).softmax(dim=1)


def export_net(kind: str, net: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """The content of an 'onnx' or 'torch' file that takes a batch of any size, with `metadata` in it.

    The net maps uint8 (N, 32, 32, 3) to float32 (N, C).
    """
    example = (torch.zeros(2, 32, 32, 3, dtype=torch.uint8),)  # not one: a size of 1 would be taken for a constant
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters speak to their developers: of passes and deprecated calls
        program = torch.export.export(net, example, dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}})
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
    proto = converted.model_proto
    del proto.graph.value_info[:]  # shapes inside of the net, with torch's own name of the batch's size
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    content: bytes = proto.SerializeToString()
    return content


def load_exported(kind: str, content: bytes) -> tuple[Run, dict[str, str]]:
    """Loads the content of an exported file as its users will: how to run it, and its metadata."""
    if kind == "torch":
        extra = {METADATA_FILE: ""}
        module = torch.export.load(io.BytesIO(content), extra_files=extra).module()
        return torch.inference_mode()(lambda images: module(images)), json.loads(extra[METADATA_FILE])
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (probabilities,) = session.run([OUTPUT], {INPUT: np.ascontiguousarray(images.numpy())})
        return torch.from_numpy(probabilities)

    return run, dict(session.get_modelmeta().custom_metadata_map)


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


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        "export",
        "Write the trained net as one file: uint8 images in, probabilities out, a batch of any size. The file is "
        "read back and compared with the net on the test images of the sample before it gets its name.",
        "Probabilities are calibrated where `test --calibrate` has fitted a temperature for these very weights.",
    )
    add = parser.add_argument
    add("--format", choices=tuple(SUFFIXES), required=True,
        help="onnx, for onnxruntime and others (needs the extra [export]), or torch, an ExportedProgram")  # fmt: skip
    add("--output", type=Path, metavar="FILE",
        help="default: recipe, run and checkpoint with .onnx or .pt2, in this folder")  # fmt: skip
    options = parser.parse(argv)
    packages = ("onnx", "onnxscript", "onnxruntime") if options.format == "onnx" else ()
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"export --format onnx needs the package {package}: install the extra with pip install -e '.[export]'"
            )
    return options
