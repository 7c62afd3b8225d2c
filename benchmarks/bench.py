"""Measures this machine and this project on it, each figure beside a comparison, into one JSON.

    python -m benchmarks bench --quick
    python -m benchmarks bench --output results/bench.json && python -m benchmarks tables

The second line is that of docs/speed.md, whose table is written from that file.
"""

import argparse
import tempfile
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import data_path, matrix, startup, step, training, workbench
from benchmarks.figures import FIGURES
from benchmarks.measure import conditions
from benchmarks.workbench import Effort, Workbench, find_data
from cifar_lightning.config.flags import LOGS
from cifar_lightning.errors import OutputError
from cifar_lightning.runs import environment
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.settings import without_folders


def main(argv: list[str]) -> int:
    """Measures, prints and writes the JSON.

    Raises:
        ConfigError: a GPU is asked for and there is none.
        DataError: CIFAR-10 is not there.
        OutputError: the JSON cannot be written.
    """
    parser = argparse.ArgumentParser("python -m benchmarks bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute instead of half an hour: a look only")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"the JSON; by default {LOGS}/bench/<time>.json")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="what to measure")
    arguments = parser.parse_args(argv)
    started_at = datetime.now().astimezone()
    output = arguments.output or Path(LOGS, "bench", f"{started_at:%Y-%m-%d_%H-%M-%S}.json")
    accelerator = environment.accelerator_of(arguments.accelerator)
    # Before anything is measured: half an hour should not end in a folder that cannot be written.
    if output.is_dir():
        raise OutputError(f"--output {output} is a folder; give the name of a file")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {output.parent} for the results: {error.strerror}") from error
    content = {
        **conditions(accelerator),
        "quick": arguments.quick,
        "started_at": started_at.isoformat(timespec="seconds"),
        **measure(accelerator, workbench.QUICK if arguments.quick else workbench.FULL),
        "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    write_json(output, without_folders(content))
    print(f"written  {output}")
    return 0


def measure(accelerator: str, effort: Effort) -> dict[str, Any]:
    """Measures everything, and prints each figure when its section is finished.

    Returns:
        `accelerator`, `precision`, `effort` and a section for each of `figures.FIGURES`; no profile of a GPU.
    """
    content: dict[str, Any] = {}

    def finished(section: str, measured: dict[str, Any]) -> None:
        content[section] = measured
        for figure in FIGURES[section](measured):
            print(figure.line(), flush=True)

    data = find_data(effort.val_size)
    with tempfile.TemporaryDirectory(prefix="cifar_lightning_bench_") as folder:
        bench = Workbench(accelerator, effort, data, Path(folder))
        content |= {"accelerator": accelerator, "precision": bench.precision, "effort": asdict(effort)}
        print(f"device {bench.device}, precision {bench.precision}: median (least to greatest) over the rounds")
        finished("startup", startup.measure(bench))  # first, while this process is small: see there
        data.setup("fit")
        finished("matrix", matrix.measure(bench))
        finished("data", data_path.measure(bench))
        finished("training", training.measure(bench, content["data"]["best_workers"], content["matrix"]))
        if accelerator == "cpu":  # a GPU's operators run behind the calls
            finished("profile", step.operators(bench))
        finished("overhead", step.overhead(bench, content["training"]))
    return content
