"""`bench`: measures this machine and this project on it, into one JSON; the README's table comes from such a file."""

import argparse
import json
import shlex
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from cifar_lightning.bench import data_path, effort, matrix, overhead, profile, startup, table, training
from cifar_lightning.bench.board import Board
from cifar_lightning.bench.quiet import without_advice
from cifar_lightning.bench.workbench import Workbench, find_data
from cifar_lightning.config.parser import LOGS
from cifar_lightning.errors import ConfigError, OutputError
from cifar_lightning.runs import environment
from cifar_lightning.runs.atomic import write_json, write_text
from cifar_lightning.runs.results import README, replace_table
from cifar_lightning.runs.settings import without_folders


def main(argv: list[str]) -> int:
    """Measures and writes the JSON; with `--readme` writes the README's table from such a file instead.

    Raises:
        ConfigError: a flag is wrong, or a GPU is asked for and there is none.
        DataError: CIFAR-10 is not there.
        OutputError: a file cannot be read or written.
    """
    parser = _Parser(
        prog="python -m cifar_lightning bench",
        allow_abbrev=False,
        description="Measure start, data path, training and overhead on this machine, each beside a comparison.",
    )
    parser.add_argument("--quick", action="store_true", help="a minute instead of half an hour: a look only")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"the JSON; by default {LOGS}/bench/<time>.json")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="what to measure")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="measure nothing: FILE's table into README.md")
    arguments = parser.parse_args(argv)
    if arguments.readme is not None:
        return _write_readme(arguments.readme)
    started_at = datetime.now().astimezone()
    output = arguments.output or Path(LOGS, "bench", f"{started_at:%Y-%m-%d_%H-%M-%S}.json")
    accelerator = environment.accelerator_of(arguments.accelerator)
    _make_room(output)
    content = {
        "command": shlex.join(["python", "-m", "cifar_lightning", "bench", *argv]),
        "quick": arguments.quick,
        "started_at": started_at.isoformat(timespec="seconds"),
        **environment.commit(),
        "versions": environment.versions(),
        "hardware": environment.hardware(accelerator),
        **run(accelerator, effort.QUICK if arguments.quick else effort.FULL),
        "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    write_json(output, without_folders(content))
    print(f"written  {output}")
    return 0


def run(accelerator: str, chosen: effort.Effort) -> dict[str, Any]:
    """Measures everything, and prints each figure when its section is finished.

    Returns:
        `accelerator`, `precision`, `effort` and a section for each of `table.SECTIONS`.
    """
    content: dict[str, Any] = {}

    def finished(section: str, measured: dict[str, Any]) -> None:
        content[section] = measured
        board.show(table.figures(section, measured))

    data = find_data(chosen.val_size)
    with Board() as board, tempfile.TemporaryDirectory(prefix="cifar_lightning_bench_") as folder, without_advice():
        bench = Workbench(accelerator, chosen, data, Path(folder), board.measuring)
        content |= {"accelerator": accelerator, "precision": bench.precision, "effort": chosen.to_dict()}
        board.say(f"device {bench.device}, precision {bench.precision}: median (least to greatest) over the rounds")
        finished("startup", startup.measure(bench))  # first, while this process is small: see there
        data.setup("fit")
        finished("matrix", matrix.measure(bench))
        finished("data", data_path.measure(bench))
        finished("training", training.measure(bench, content["data"]["best_workers"], content["matrix"]))
        if accelerator == "cpu":  # a GPU's operators run behind the calls
            finished("profile", profile.measure(bench))
        finished("overhead", overhead.measure(bench, content["training"]))
    return content


def _write_readme(path: Path) -> int:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rendered = table.render_table(content)
        readme = README.read_text(encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--readme {path} is not what `bench` writes: {type(error).__name__}: {error}") from error
    write_text(README, replace_table(readme, rendered, table.BEGIN, table.END))
    print(f"written  the table in {README}")
    return 0


def _make_room(output: Path) -> None:
    """Before anything is measured: half an hour should not end in a folder that cannot be written."""
    if output.is_dir():
        raise OutputError(f"--output {output} is a folder; give the name of a file")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {output.parent} for the results: {error.strerror}") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"bench: {message}; see python -m cifar_lightning bench --help")
