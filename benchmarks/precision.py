"""Does bf16 cost accuracy? Pairs of short trainings of the report's model, bf16-mixed against 32-true, by seed.

    python -m benchmarks precision --pairs 10

trains what has not been trained yet (two runs of `configs/short.yaml` per seed, into `lightning_logs/`), compares the
validation accuracy of the last epoch, and writes `results/precision.json`. The test set is left alone. The number of
pairs is fixed before the first one is looked at.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.measure import command
from benchmarks.recipes import finished_run, fit, interval
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.record import read_record
from cifar_lightning.runs.settings import without_folders

PRECISIONS = ("bf16-mixed", "32-true")
MARGIN = 0.01  # one point of accuracy
CONFIG = Path("configs/short.yaml")


def compare(pairs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The paired difference of validation accuracies, bf16-mixed minus 32-true, with its 95% t interval."""
    accuracies = [{name: run["metrics"]["last_epoch"]["val_accuracy"] for name, run in pair.items()} for pair in pairs]
    difference = interval([pair["bf16-mixed"] - pair["32-true"] for pair in accuracies])
    inside = difference["low"] > -MARGIN and difference["high"] < MARGIN
    return {
        "n": len(pairs),
        "mean_val_accuracy": {name: sum(pair[name] for pair in accuracies) / len(pairs) for name in PRECISIONS},
        "difference": difference,
        "verdict": "within one point" if inside else "not shown",
        "pairs": [
            {"seed": pair["32-true"]["seed"], **figures} for pair, figures in zip(pairs, accuracies, strict=True)
        ],
    }


def main(argv: list[str]) -> int:
    """Trains, compares, writes and prints."""
    parser = argparse.ArgumentParser("python -m benchmarks precision", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10, help="seeds 0 to pairs - 1, at least 8")
    parser.add_argument("--logs", type=Path, default=Path("lightning_logs/precision"))
    parser.add_argument("--output", type=Path, default=Path("results/precision.json"))
    arguments = parser.parse_args(argv)
    if arguments.pairs < 8:
        parser.error(f"--pairs must be at least 8, got {arguments.pairs}")
    pairs: list[dict[str, dict[str, Any]]] = []
    for seed in range(arguments.pairs):
        pairs.append({})
        for precision in PRECISIONS:
            logs = arguments.logs / f"{precision}-{seed}"
            flags = ("--final_test=false", f"--trainer.precision={precision}")
            done = finished_run(logs) or read_record(fit(CONFIG, seed, logs, *flags))
            pairs[-1][precision] = done.to_json()
    first = pairs[0]["bf16-mixed"]
    keys = ("commit", "dirty", "versions", "hardware", "config")
    for run in (run for pair in pairs for run in pair.values()):
        if run["commit"] != first["commit"] or run["dirty"] is not False:
            raise ConfigError(f"{run['command']}: not of the one clean commit; remove {arguments.logs}, start again")
    result = {"command": command(), **{key: first[key] for key in keys}, **compare(pairs)}
    write_json(arguments.output, without_folders(result))
    difference = result["difference"]
    print(
        f"bf16-mixed minus 32-true: {100 * difference['mean']:+.2f} points of validation accuracy, 95% interval "
        f"{100 * difference['low']:+.2f} to {100 * difference['high']:+.2f}, n = {result['n']}: {result['verdict']}"
    )
    return 0
