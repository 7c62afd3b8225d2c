"""Accuracy against seconds of training: the speed recipes of a CPU and the report's final model, in one picture.

    python -m benchmarks race                # all of them
    python -m benchmarks race cpu94 cpu78

trains each with seed 0 on 45,000 images, writes its validation accuracy after every epoch to `results/race_<name>.json`
and draws all that are there as `results/race.png`. The test set is left alone. Seconds are those of the training
steps, without validation and without test-time augmentation.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.recipes import fit, require_commit
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs import environment
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.figures import save
from cifar_lightning.runs.record import RESULTS, read_record, read_rows
from cifar_lightning.runs.settings import without_folders

CONFIGS = {
    "cpu78": "configs/speed/cpu78.yaml",
    "cpu90": "configs/speed/cpu90.yaml",
    "cpu94": "configs/speed/cpu94.yaml",
    "final": "configs/report/final.yaml",
}
COLOURS = {"cpu78": "#d95f02", "cpu90": "#2a8a4a", "cpu94": "#1f6fb4", "final": "#4d4d4d"}
PICTURE = RESULTS / "race.png"
KEPT = ("recipe", "seed", "command", "commit", "dirty", "versions", "hardware", "precision", "config")


def train(name: str, logs: Path) -> dict[str, Any]:
    """Trains a recipe as a user would; returns what becomes of it."""
    folder = fit(Path(CONFIGS[name]), 0, logs / name, "--data.val_size=5000", "--final_test=false")
    record = read_record(folder).to_json()
    if record["dirty"] is not False:
        raise ConfigError(f"the code changed before {folder} began: start again")
    epochs = points(read_rows(folder / "metrics.csv"), read_rows(folder / "timings.csv"))
    return without_folders({key: record[key] for key in KEPT} | {"epochs": epochs})


def recorded_as(name: str) -> Path:
    """Where what became of a recipe is kept."""
    return RESULTS / f"race_{name}.json"


def points(rows: list[dict[str, float]], timings: list[dict[str, float]]) -> list[dict[str, float]]:
    """Per epoch the seconds of training up to its end and the validation accuracy there."""
    seconds = itertools.accumulate(timing["train_s"] for timing in timings)
    return [
        {"epoch": row["epoch"], "train_s": round(until, 3), "val_accuracy": row["val_accuracy"]}
        for row, until in zip(rows, seconds, strict=True)
    ]


def draw(results: dict[str, dict[str, Any]]) -> Figure:
    """Validation accuracy against seconds on a log axis, a line per system."""
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, result in results.items():
        seconds = [point["train_s"] for point in result["epochs"]]
        accuracies = [point["val_accuracy"] for point in result["epochs"]]
        where = f"{environment.place(result['hardware'])}, {result['precision']}"
        label = f"{name}: {accuracies[-1]:.1%} after {seconds[-1]:,.0f} s ({where})"
        axes.plot(seconds, accuracies, marker="o", markersize=3, color=COLOURS[name], label=label)
    axes.set_xscale("log")
    axes.set_xlabel("seconds of training, one seed each")
    axes.set_ylabel("validation accuracy, without test-time augmentation")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def main(argv: list[str]) -> int:
    """Trains, writes and draws."""
    parser = argparse.ArgumentParser("python -m benchmarks race", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(CONFIGS)}; by default all")
    parser.add_argument("--logs", type=Path, default=Path("lightning_logs/race"), help="must not hold them yet")
    parser.add_argument("--draw", action="store_true", help="train nothing: draw what is recorded")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - CONFIGS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(CONFIGS)}")
    names = [] if arguments.draw else arguments.names or list(CONFIGS)
    if taken := [str(arguments.logs / name) for name in names if (arguments.logs / name).exists()]:
        parser.error(f"{', '.join(taken)}: runs of several goes cannot be told apart; remove them")
    if names:
        require_commit()
    for name in names:
        write_json(recorded_as(name), train(name, arguments.logs))
    found = {name: json.loads(recorded_as(name).read_text()) for name in CONFIGS if recorded_as(name).exists()}
    if not found:
        parser.error("nothing is recorded yet that could be drawn")
    save(draw(found), PICTURE)
    print(f"written  {PICTURE}")
    return 0
