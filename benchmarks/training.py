"""Images per second of training the report's CNN: ours, a bare loop, and what a tutorial would write.

Each in a process of its own: what `cifar_lightning.process` sets for ours, other people's scripts do not have.
"""

import contextlib
import functools
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants import Span, bare_loop, our_experiment, ours, plain_lightning
from benchmarks.data_path import plain_dataset
from benchmarks.measure import Summary, interleave, ratios, summaries, summary
from benchmarks.processes import Measure, in_own_processes
from benchmarks.workbench import Effort, Workbench, find_data
from cifar_lightning import process
from cifar_lightning.classifier import Classifier
from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.study.flops import count

OURS, BARE, BARE_TUNED = "ours", "bare loop", "bare loop, with our settings of the process"
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
    kind = MATRIX_OF[bench.precision]
    roof = matrix[kind]["flop_per_s"]
    results = {}
    with contextlib.ExitStack() as stack:
        if bench.effort.own_processes:
            place = (workers, bench.accelerator, bench.effort, bench.folder)
            makers = {name: (in_its_process, (name, *place)) for name in (OURS, BARE, BARE_TUNED, PLAIN, PLAIN_MIXED)}
            contestants = stack.enter_context(in_own_processes(makers, tuned=(OURS, BARE_TUNED)))
        else:
            contestants = in_this_process(bench, workers)
        for size in bench.effort.batch_sizes:
            for rate in contestants.values():  # before the first round each reads its data and warms up
                rate(Span(size, bench.effort.warmup_steps, 1))
            span = span_of(bench, size)
            values = interleave({name: partial(rate, span) for name, rate in contestants.items()}, bench.effort.rounds)
            flop = count(Classifier(ReportCNN()), size)["step"] / size
            results[str(size)] = {
                "matrix": kind,
                "plain_workers": workers,
                **span._asdict(),
                "images_per_s": summaries(values),
                "ratio": ratios(values, OURS),
                "flop_per_image": flop,
                "flop_per_s": _scaled(values[OURS], flop),
                "matrix_rate": roof,
                "share_of_matrix_rate": _scaled(values[OURS], flop / roof),
            }
    return results


def span_of(bench: Workbench, batch_size: int) -> Span:
    """A span that takes the bare loop about `seconds` and ends before the first epoch does.

    So that no contestant validates, or saves its epoch, inside of it.
    """
    warmup_steps = bench.effort.warmup_steps
    most = len(bench.loader(batch_size)) - warmup_steps - 1
    trial = Span(batch_size, warmup_steps, min(3, most))
    step_s = bare_loop(bench, ReportCNN(), trial, bench.precision)
    return Span(batch_size, warmup_steps, max(min(round(bench.effort.seconds / step_s), most), trial.steps))


def in_this_process(bench: Workbench, workers: int) -> dict[str, Measure]:
    """By name: trains for a span and returns images per second."""
    dataset = plain_dataset(bench, augmented=False)
    experiment = functools.cache(partial(our_experiment, bench))  # of each span, with its data

    def our(span: Span) -> float:
        return span.batch_size / ours(bench, experiment(span), span)

    def bare(span: Span) -> float:
        return span.batch_size / bare_loop(bench, ReportCNN(), span, bench.precision)

    def plain(precision: str, span: Span) -> float:
        return span.batch_size / plain_lightning(bench, ReportCNN(), dataset, workers, span, precision)

    return {
        OURS: our,
        BARE: bare,
        BARE_TUNED: bare,
        PLAIN: partial(plain, "32-true"),
        PLAIN_MIXED: partial(plain, "bf16-mixed"),
    }


def in_its_process(name: str, workers: int, accelerator: str, effort: Effort, folder: Path) -> Measure:
    """One of the contestants with a workbench of its own; called in the process that it has for itself."""
    if name == BARE_TUNED and not torch.cuda.is_available():
        process.skip_gpu_search()
    data = find_data(effort.val_size)
    data.setup("fit")
    return in_this_process(Workbench(accelerator, effort, data, folder), workers)[name]


def _scaled(values: list[float], factor: float) -> Summary:
    return summary([value * factor for value in values])
