"""Images per second of training the report's CNN: ours, a bare loop, and what a tutorial would write."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import CIFAR10

from cifar_lightning.bench.contestants import bare_loop, our_experiment, ours, plain_lightning
from cifar_lightning.bench.data_path import plain_dataset
from cifar_lightning.bench.measure import Summary, interleave, ratios, summaries, summary
from cifar_lightning.bench.stopwatch import Span
from cifar_lightning.bench.workbench import Workbench
from cifar_lightning.nets.report_cnn import ReportCNN

OURS, BARE = "ours", "bare loop"
PLAIN, PLAIN_MIXED = "plain Lightning script", "plain Lightning script, bf16-mixed"

MATRIX_OF = {"bf16-mixed": "bf16", "32-true": "fp32"}  # whose rate bounds a training of this precision


def measure(bench: Workbench, workers: int, matrix: dict[str, Any]) -> dict[str, Any]:
    """Every contestant at every batch size.

    Args:
        bench: where.
        workers: of torchvision's DataLoader.
        matrix: the machine's rates, as `matrix.measure` gives them.

    Returns:
        By batch size: `matrix`, whose rate is the roof, the span, `images_per_s` by contestant, `ratio` of ours to each
        other, `flop_per_image`, `flop_per_s` of ours and its `share_of_matrix_rate`.
    """
    dataset = plain_dataset(bench, augmented=False)
    kind = MATRIX_OF[bench.precision]
    roof = matrix[kind]["flop_per_s"]
    return {
        str(size): {"matrix": kind, **_at(bench, size, dataset, workers, roof)} for size in bench.effort.batch_sizes
    }


def span_of(bench: Workbench, batch_size: int) -> Span:
    """A span that takes the bare loop about `training_s` and ends before the first epoch does.

    So that no contestant validates, or saves its epoch, inside of it.
    """
    warmup_steps = bench.effort.warmup_steps
    most = len(bench.loader(batch_size)) - warmup_steps - 1
    trial = Span(batch_size, warmup_steps, min(3, most))
    seconds = bare_loop(bench, ReportCNN(), trial, bench.precision)
    return Span(batch_size, warmup_steps, max(min(round(bench.effort.training_s / seconds), most), trial.steps))


def flop_per_image(net: nn.Module, batch_size: int) -> float:
    """Floating point operations of one forward and backward pass, counted, over `batch_size` images, for each."""
    net = net.cpu().train()
    images, labels = torch.randn(batch_size, 3, 32, 32), torch.zeros(batch_size, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(images), labels).backward()
    return counter.get_total_flops() / batch_size


def _at(bench: Workbench, batch_size: int, dataset: CIFAR10, workers: int, roof: float) -> dict[str, Any]:
    span = span_of(bench, batch_size)
    values = interleave(contestants(bench, span, dataset, workers), bench.effort.training_rounds, bench.watch)
    flop = flop_per_image(ReportCNN(), batch_size)
    return {
        **span._asdict(),
        "plain_workers": workers,
        "images_per_s": summaries(values),
        "ratio": ratios(values, OURS),
        "flop_per_image": flop,
        "flop_per_s": _scaled(values[OURS], flop),
        "share_of_matrix_rate": _scaled(values[OURS], flop / roof),
    }


def contestants(bench: Workbench, span: Span, dataset: CIFAR10, workers: int) -> dict[str, Callable[[], float]]:
    """By name: trains for the span and returns images per second."""
    experiment = our_experiment(bench, span, [])

    def plain(precision: str) -> float:
        return plain_lightning(bench, ReportCNN(), dataset, workers, span, precision)

    return {
        OURS: lambda: span.batch_size / ours(bench, experiment, span),
        BARE: lambda: span.batch_size / bare_loop(bench, ReportCNN(), span, bench.precision),
        PLAIN: lambda: span.batch_size / plain("32-true"),
        PLAIN_MIXED: lambda: span.batch_size / plain("bf16-mixed"),
    }


def _scaled(values: list[float], factor: float) -> Summary:
    return summary([value * factor for value in values])
