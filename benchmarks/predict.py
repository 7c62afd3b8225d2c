"""How fast a trained net is in use: the stages of `predict`, and the report's net in three forms, all in turns.

    python -m benchmarks predict

makes picture files from CIFAR-10's test images, measures, prints, and writes `results/predict.json`. Needs the extra
[export]. The weights are drawn: they make no difference to speed.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import Summary, conditions, interleave, ratios, summaries
from benchmarks.workbench import find_data
from cifar_lightning.classifier import Classifier
from cifar_lightning.data.layouts import CLASS_NAMES
from cifar_lightning.inference import export, preprocess
from cifar_lightning.inference.export import ExportedNet
from cifar_lightning.inference.inputs import read_all
from cifar_lightning.inference.loading import Trained
from cifar_lightning.inference.predictor import Predictor
from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.runs import environment
from cifar_lightning.runs.atomic import write_json

BATCH = 512
NOISE = 12  # grey levels: an enlarged picture alone is smoother, and so sooner decoded, than a photograph


def report_net(precision: str) -> Predictor:
    """The report's net with drawn weights on the CPU."""
    config = {"data": {"eval_batch_size": BATCH}, "trainer": {"precision": precision}}
    model = Classifier(ReportCNN()).eval().requires_grad_(False)
    trained = Trained(Path("drawn.ckpt"), "", model, CLASS_NAMES, "final", 0, "nothing", 0, config)
    return Predictor(trained, accelerator="cpu", is_calibrated=False)


def picture_files(images: Tensor, folder: Path, count: int) -> dict[str, list[Path]]:
    """Writes `count` files of each kind from images uint8 (N, 32, 32, 3); their paths by kind."""
    generator = np.random.default_rng(0)
    files: dict[str, list[Path]] = {"PNG 32x32": [], "JPEG 640x480": []}
    for index, image in enumerate(images[:count].numpy()):
        files["PNG 32x32"].append(folder / f"{index}.png")
        Image.fromarray(image).save(files["PNG 32x32"][-1])
        large = np.asarray(Image.fromarray(image).resize((640, 480), Image.Resampling.BICUBIC)).astype(np.int16)
        large += generator.integers(-NOISE, NOISE + 1, large.shape, dtype=np.int16)
        files["JPEG 640x480"].append(folder / f"{index}.jpg")
        Image.fromarray(large.clip(0, 255).astype(np.uint8)).save(files["JPEG 640x480"][-1], quality=90)
    return files


def seconds_each(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """The mean time of `work` over the items."""
    started_at = time.perf_counter()
    for item in items:
        work(item)
    return (time.perf_counter() - started_at) / len(items)


def stages(predictor: Predictor, files: dict[str, list[Path]], images: Tensor, rounds: int) -> dict[str, Summary]:
    """Seconds a picture of each stage alone, on one thread but for the net; and pictures a minute of everything."""
    opened = [Image.open(path) for path in files["JPEG 640x480"][:32]]
    for image in opened:
        image.load()
    batch = images[:BATCH]
    contestants: dict[str, Callable[[], float]] = {
        f"decode and resize, {kind}": partial(seconds_each, preprocess.decode, paths[:200])
        for kind, paths in files.items()
    }
    contestants |= {
        "decode in full and resize, JPEG 640x480": lambda: seconds_each(_in_full, files["JPEG 640x480"][:200]),
        "resize, 640x480 decoded in full": lambda: seconds_each(preprocess.to_pixels, opened),
        "net, batch 512": lambda: seconds_each(predictor.probabilities, [batch] * 3) / len(batch),
    }
    for kind, paths in files.items():
        contestants[f"everything, {kind}"] = partial(_everything, predictor, paths)
    return summaries(interleave(contestants, rounds))


def forms(predictor: Predictor, images: Tensor, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of a batch of 1 and of 512 for the net in eager form, compiled, and in onnxruntime, with ratios."""
    eager = Predictor(predictor.trained, accelerator="cpu", precision="32-true", is_calibrated=False)
    graph = ExportedNet(eager)
    run_onnx, _ = export.load_exported("onnx", export.export_net("onnx", graph, {}))
    compiled = torch.compile(graph, dynamic=False)  # one variant for each size of batch
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        f"eager, {predictor.precision}": predictor.probabilities,
        "compiled, 32-true": torch.inference_mode()(lambda batch: compiled(batch)),
        "onnxruntime, 32-true": run_onnx,
    }
    if predictor.precision != "32-true":
        runs["eager, 32-true"] = eager.probabilities
    result: dict[str, Any] = {}
    for size, repeats in ((1, 100), (BATCH, 3)):
        batch = images[:size].contiguous()
        for run in runs.values():  # compilation and first touches are not timed
            torch.testing.assert_close(run(batch), eager.probabilities(batch), rtol=0, atol=0.05)
        values = interleave({name: partial(seconds_each, run, [batch] * repeats) for name, run in runs.items()}, rounds)
        result[f"batch {size}"] = {
            "seconds": summaries(values),
            "time_over_others": ratios(values, "onnxruntime, 32-true"),
        }
    return result


def _in_full(path: Path) -> None:
    with Image.open(path) as image:
        preprocess.to_pixels(image)


def _everything(predictor: Predictor, paths: Sequence[Path]) -> float:
    """Pictures a minute, decoding threads and net together, as `predict` has them."""
    started_at = time.perf_counter()
    waiting: list[Tensor] = []
    for outcome in read_all(paths):
        assert isinstance(outcome, np.ndarray)
        waiting.append(torch.from_numpy(outcome))
        if len(waiting) == predictor.batch_size:
            list(predictor.predictions(torch.stack(waiting)))
            waiting.clear()
    if waiting:
        list(predictor.predictions(torch.stack(waiting)))
    return 60 * len(paths) / (time.perf_counter() - started_at)


def main(argv: list[str]) -> int:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser("python -m benchmarks predict", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=2048, help="files of each kind")
    parser.add_argument("--output", type=Path, default=Path("results/predict.json"))
    options = parser.parse_args(argv)
    started_at = datetime.now().astimezone()
    data = find_data(0)
    data.setup("test")
    images, _ = data.images_of("test")
    predictor = report_net(environment.native_precision("cpu"))
    with tempfile.TemporaryDirectory() as name:
        files = picture_files(images, Path(name), options.pictures)
        sizes = {kind: sum(path.stat().st_size for path in paths) / len(paths) for kind, paths in files.items()}
        content = {
            **conditions("cpu"),
            "started_at": started_at.isoformat(timespec="seconds"),
            "precision": predictor.precision,
            "mean_bytes": sizes,
            "stages": stages(predictor, files, images, options.rounds),
            "forms": forms(predictor, images, Path(name), options.rounds),
        }
    for stage, value in content["stages"].items():
        is_rate = stage.startswith("everything")
        text = f"{value['median']:>12,.0f} a minute" if is_rate else f"{1e6 * value['median']:>12,.0f} µs"
        print(f"{stage:<44}{text}")
    for size, result in content["forms"].items():
        for form, value in result["seconds"].items():
            ratio = result["time_over_others"].get(form)
            beside = f"  onnxruntime takes {ratio['median']:.2f} of it" if ratio else ""
            print(f"{size + ', ' + form:<44}{1e3 * value['median']:>12,.2f} ms{beside}")
    write_json(options.output, content)
    print(f"written {options.output}")
    return 0
