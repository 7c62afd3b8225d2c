"""Images per second of training the report's CNN: ours, a bare loop, and what a tutorial would write.

Each in a process of its own: what `cifar_lightning.process` sets for ours, a script of one's own does not have.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cifar_lightning import process
from cifar_lightning.bench.contestants import bare_loop, our_experiment, ours, plain_lightning
from cifar_lightning.bench.data_path import plain_dataset
from cifar_lightning.bench.effort import Effort
from cifar_lightning.bench.measure import Summary, interleave, ratios, summaries, summary
from cifar_lightning.bench.processes import Measure, started
from cifar_lightning.bench.quiet import without_advice
from cifar_lightning.bench.stopwatch import Span
from cifar_lightning.bench.workbench import Workbench, find_data
from cifar_lightning.config.parser import Experiment
from cifar_lightning.nets.report_cnn import ReportCNN

OURS, BARE, BARE_TUNED = "ours", "bare loop", "bare loop, with our settings of the process"
PLAIN, PLAIN_MIXED = "plain Lightning script", "plain Lightning script, bf16-mixed"

_FOR_LIFE = ExitStack()  # what a process of one contestant enters once and never leaves

MATRIX_OF = {"bf16-mixed": "bf16", "32-true": "fp32"}  # whose rate bounds a training of this precision


def measure(bench: Workbench, workers: int, matrix: dict[str, Any]) -> dict[str, Any]:
    """Every contestant at every batch size, each in a process of its own.

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
    with _contestants(bench, workers) as contestants:
        for size in bench.effort.batch_sizes:
            for name, rate in contestants.items():  # before the first round each reads its data and warms up
                bench.watch(name, 0)
                rate(Span(size, bench.effort.warmup_steps, 1))
            results[str(size)] = {"matrix": kind, "plain_workers": workers, **_at(bench, size, contestants, roof)}
    return results


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


def in_this_process(bench: Workbench, workers: int) -> dict[str, Measure]:
    """By name: trains for a span and returns images per second."""
    dataset = plain_dataset(bench, augmented=False)
    experiments: dict[Span, Experiment] = {}

    def our(span: Span) -> float:
        if span not in experiments:
            experiments[span] = our_experiment(bench, span, [])
        return span.batch_size / ours(bench, experiments[span], span)

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
    _FOR_LIFE.enter_context(without_advice())
    if name == BARE_TUNED and not torch.cuda.is_available():
        process.skip_gpu_search()
    data = find_data(effort.val_size)
    data.setup("fit")
    return in_this_process(Workbench(accelerator, effort, data, folder), workers)[name]


def _contestants(bench: Workbench, workers: int) -> AbstractContextManager[dict[str, Measure]]:
    if not bench.effort.own_processes:
        return nullcontext(in_this_process(bench, workers))
    place = (workers, bench.accelerator, bench.effort, bench.folder)
    makers = {name: (in_its_process, (name, *place)) for name in (OURS, BARE, BARE_TUNED, PLAIN, PLAIN_MIXED)}
    return started(makers, tuned=(OURS, BARE_TUNED))


def _at(bench: Workbench, batch_size: int, contestants: dict[str, Measure], roof: float) -> dict[str, Any]:
    span = span_of(bench, batch_size)
    rates = {name: partial(rate, span) for name, rate in contestants.items()}
    values = interleave(rates, bench.effort.training_rounds, bench.watch)
    flop = flop_per_image(ReportCNN(), batch_size)
    return {
        **span._asdict(),
        "images_per_s": summaries(values),
        "ratio": ratios(values, OURS),
        "flop_per_image": flop,
        "flop_per_s": _scaled(values[OURS], flop),
        "matrix_rate": roof,
        "share_of_matrix_rate": _scaled(values[OURS], flop / roof),
    }


def _scaled(values: list[float], factor: float) -> Summary:
    return summary([value * factor for value in values])
