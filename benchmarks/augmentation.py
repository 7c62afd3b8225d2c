"""What each augmentation costs: the step of the report's CNN with it, beside the step without any.

    python -m benchmarks augmentation && python -m benchmarks tables

The bare loop trains over the loader of `fit`, batch 128, in the precision of `fit`, with one augmentation after the
other in each round. The steps of a round are whole chunks of the loader, which prepares several batches at once. What
is drawn once an epoch comes before them.
"""

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.contestants import Span, bare_loop
from benchmarks.measure import conditions, interleave, ratio, summaries
from benchmarks.workbench import FULL, Workbench, find_data
from cifar_lightning.data.loader import CHUNK, NO_AUGMENTATION
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.runs import environment
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.settings import without_folders

BATCH_SIZE = 128
CHUNKS = 3  # of a round, after one that warms up
NONE = "none"
AUGMENTATIONS = {
    NONE: NO_AUGMENTATION,
    "flip and crop": Augmentation(flip="random", crop_padding=4),
    "randaugment": Augmentation(policy="randaugment"),
    "trivialaugment": Augmentation(policy="trivialaugment"),
    "erasing": Augmentation(erasing=0.25),
    "mixup": Augmentation(mixup=0.2),
    "cutmix": Augmentation(cutmix=1.0),
    "all of these": Augmentation(
        flip="random", crop_padding=4, policy="randaugment", erasing=0.25, mixup=0.2, cutmix=1.0
    ),
}


def measure(bench: Workbench, batch_size: int = BATCH_SIZE) -> dict[str, Any]:
    """`ms_per_step` by augmentation and `ratio`, its step to that without any, by rounds; and the settings of each."""
    per_chunk = max(CHUNK // batch_size, 1)
    span = Span(batch_size, per_chunk, CHUNKS * per_chunk)
    values = interleave(
        {
            name: lambda augmentation=augmentation: (  # type: ignore[misc]
                1e3 * bare_loop(bench, ReportCNN(), span, bench.precision, augmentation)
            )
            for name, augmentation in AUGMENTATIONS.items()
        },
        bench.effort.rounds,
    )
    return {
        **span._asdict(),
        "precision": bench.precision,
        "settings": {name: asdict(augmentation) for name, augmentation in AUGMENTATIONS.items()},
        "ms_per_step": summaries(values),
        "ratio": {name: ratio(values[name], values[NONE]) for name in AUGMENTATIONS if name != NONE},
    }


def main(argv: list[str]) -> int:
    """Measures, prints and writes the JSON. Raises DataError: CIFAR-10 is not there."""
    parser = argparse.ArgumentParser("python -m benchmarks augmentation", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/augmentation.json"), metavar="FILE")
    parser.add_argument("--rounds", type=int, default=FULL.rounds, help=f"by default {FULL.rounds}")
    arguments = parser.parse_args(argv)
    effort, output = replace(FULL, rounds=arguments.rounds), arguments.output
    accelerator = environment.accelerator_of("auto")
    data = find_data(effort.val_size)
    data.setup("fit")
    with tempfile.TemporaryDirectory(prefix="cifar_lightning_bench_") as folder:
        measured = measure(Workbench(accelerator, effort, data, Path(folder)))
    for name, times in measured["ratio"].items():
        step = measured["ms_per_step"][name]["median"]
        print(
            f"{name:<16}{step:7.1f} ms a step, {times['median']:.2f} ({times['min']:.2f} to {times['max']:.2f}) times"
        )
    write_json(output, without_folders({**conditions(accelerator), **measured}))
    print(f"written  {output}")
    return 0
