"""What a speed recipe is timed against: a shortened training by somebody else's code, in this process.

    python -m benchmarks rivals report --precision bf16
    python -m benchmarks rivals airbench94_muon.py --precision float32

prints the seconds of the whole training as JSON, extrapolated from the part that was timed. `report` is a bare loop
over the report's net. A path is that of airbench94_muon.py in a clone of github.com/KellerJordan/cifar10-airbench; it
runs as it is, with what it asks of a GPU answered by the CPU: the precision for half floats, nothing compiled, a clock
for CUDA's events, an eighth of its steps for all of them, and its data prepared before the clock runs.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import types
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.contestants import Span, bare_loop
from benchmarks.workbench import FULL, Workbench, find_data
from cifar_lightning import process
from cifar_lightning.nets.report_cnn import ReportCNN

PRECISIONS = ("bf16", "float32")
REPORT_EPOCHS, REPORT_BATCH, WARMUP_STEPS = 30, 30, 20
AIRBENCH_EPOCHS = 8


def time_report(precision: str, epochs: int) -> dict[str, Any]:
    """The report's 30 epochs over 50,000 images in a bare loop, channels_last."""
    data = find_data(0)
    data.setup("fit")
    per_epoch = -(-data.sizes["train"] // REPORT_BATCH)
    lightnings = {"bf16": "bf16-mixed", "float32": "32-true"}[precision]
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench("cpu", FULL, data, Path(folder))
        span = Span(REPORT_BATCH, WARMUP_STEPS, epochs * per_epoch)
        epoch_s = per_epoch * bare_loop(bench, ReportCNN(), span, lightnings)
    return {
        "name": "the report's training, bare loop",
        "timed": f"{epochs} of {REPORT_EPOCHS} epochs",
        "total_s": REPORT_EPOCHS * epoch_s,
    }


class Moment:
    """Stands in for a CUDA event: a moment in time, and how long after it another one was.

    Args:
        spans_s: where what is measured is noted, in seconds.
    """

    def __init__(self, spans_s: list[float]) -> None:
        self.spans_s = spans_s

    def record(self) -> None:
        """Now."""
        self.at = time.perf_counter()

    def elapsed_time(self, other: "Moment") -> float:
        """Milliseconds from this moment to `other`."""
        self.spans_s.append(other.at - self.at)
        return 1e3 * self.spans_s[-1]


def time_airbench(script: Path, precision: str) -> dict[str, Any]:
    """airbench94_muon's own span: whitening, 8 epochs, and the evaluation with test-time augmentation."""
    data = find_data(0)
    for stage in ("fit", "test"):
        data.setup(stage)
    convert = {"bf16": "bfloat16", "float32": "float"}[precision]
    load, spans_s = torch.load, list[float]()
    module: Any = types.ModuleType("airbench")
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for target, name, stand_in in (
            (sys, "argv", [str(script)]),  # it reads itself
            (torch, "compile", lambda function: function),
            (torch, "load", lambda path, map_location: load(path)),
            (torch.Tensor, "half", getattr(torch.Tensor, convert)),
            (torch.nn.Module, "half", getattr(torch.nn.Module, convert)),
            (torch.cuda, "Event", lambda enable_timing: Moment(spans_s)),
            (torch.cuda, "synchronize", lambda: None),
        ):
            stack.enter_context(patch.object(target, name, stand_in))
        exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), vars(module))
        for name in ("train", "test"):
            images, labels = data.images_of(name)
            torch.save({"images": images, "labels": labels, "classes": data.class_names}, Path(folder) / f"{name}.pt")
        own_loader = module.CifarLoader

        def prepared(path: str, **options: Any) -> Any:
            loader = own_loader(folder, **options)
            if options["train"]:
                next(iter(loader))  # normalises and pads all images; an even epoch, to which the flips stay the same
                loader.epoch = 2
            return loader

        # Every length of its schedule passes through this name.
        module.ceil = lambda length: math.ceil(length / AIRBENCH_EPOCHS)
        module.CifarLoader = prepared
        torch.manual_seed(0)
        module.main(0, module.CifarNet().to(memory_format=torch.channels_last))
    whitening_s, epoch_s, evaluation_s = spans_s
    return {
        "name": "airbench94_muon",
        "timed": f"1 of {AIRBENCH_EPOCHS} epochs",
        "epoch_s": epoch_s,
        "evaluation_s": evaluation_s,
        "total_s": whitening_s + AIRBENCH_EPOCHS * epoch_s + evaluation_s,
    }


def main(argv: list[str]) -> int:
    """Times and prints."""
    parser = argparse.ArgumentParser("python -m benchmarks rivals", description=__doc__.splitlines()[0])
    parser.add_argument("rival", help="'report', or the path of airbench94_muon.py")
    parser.add_argument("--precision", choices=PRECISIONS, required=True)
    parser.add_argument("--epochs", type=int, default=1, help="of the report's net")
    arguments = parser.parse_args(argv)
    if torch.cuda.is_available():
        parser.error("the rivals are timed on a CPU: hide the GPU with CUDA_VISIBLE_DEVICES=")
    process.skip_gpu_search()
    report = arguments.rival == "report"
    timed = (
        time_report(arguments.precision, arguments.epochs)
        if report
        else time_airbench(Path(arguments.rival), arguments.precision)
    )
    print(json.dumps(timed | {"precision": arguments.precision}))
    return 0
