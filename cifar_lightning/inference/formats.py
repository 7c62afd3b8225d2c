"""The two files of `export`: written from a graph, read back, run."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lightning.errors import ConfigError

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
