"""What does each part of a speed recipe buy? The recipe with each part changed in turn, by validation accuracy.

    python -m benchmarks ablation cpu78 --runs 20

trains what has not been trained yet (seeds 0 to runs - 1 of every variant, two at a time with one thread each, into
`lightning_logs/`) on 45,000 images, compares the last epoch's accuracy on the other 5,000 by seed (of another split
than the one on which the recipe was chosen; the other settings stay, not tuned for the variant), and writes
`results/ablation_<recipe>.json`. The test set is left alone. The number of runs is fixed before the first one is looked
at.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import command
from benchmarks.recipes import finished_run, interval, require_commit
from cifar_lightning import cli
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.record import RESULTS
from cifar_lightning.runs.settings import without_folders

WHOLE = "all parts"
ADAM = "--model.optimizer=torch.optim.Adam"
CPU78 = {
    WHOLE: [],
    "a first layer that learns instead of whitening": ["--model.net.whitening=false"],
    "random instead of identity initialisation": ["--model.net.identity=false"],
    "Adam at 0.003 for all instead of Muon and SGD": [ADAM, "--model.optimizer.lr=0.003"],
    "Adam at 0.01 for all instead of Muon and SGD": [ADAM, "--model.optimizer.lr=0.01"],
    "one rate for all (Muon's)": ["--model.optimizer.dense_lr=0.15", "--model.optimizer.vector_lr=0.15"],
    "a constant rate": ["--model.scheduler=null"],
    "no label smoothing": ["--model.label_smoothing=0"],
    "no flip": ["--data.augment.flip=none"],
    "GELU instead of ReLU": ["--model.net.activation=GELU"],
}


@dataclass(frozen=True)
class Ablation:
    """A recipe and what is taken from it."""

    config: Path
    variants: dict[str, list[str]]  # by name: the flags that change the part


ABLATIONS = {"cpu78": Ablation(Path("configs/speed/cpu78.yaml"), CPU78)}


def train(job: tuple[str, str, int, Path]) -> tuple[str, dict[str, Any]]:
    """Trains one seed of one variant, or finds that it is trained; returns the variant's name and the run's record."""
    recipe, name, seed, logs = job
    ablation = ABLATIONS[recipe]
    place = logs / f"{list(ablation.variants).index(name)}-{seed}"
    record = finished_run(place)
    if record is None:
        flags = [
            "--config",
            str(ablation.config),
            "--data.val_size=5000",
            "--data.split_seed=1",
            "--final_test=false",
            *ablation.variants[name],
        ]
        places = [f"--seed_everything={seed}", f"--trainer.default_root_dir={place}"]
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            exit_code = cli.main(["fit", *flags, *places, "--trainer.enable_progress_bar=false"])
        record = finished_run(place)
        if exit_code or record is None:
            raise RuntimeError(f"{name}, seed {seed}: exit code {exit_code}")
    print(f"{name}, seed {seed}: {record.metrics['last_epoch']['val_accuracy']:.2%}", flush=True)
    return name, record.to_json()


def compare(accuracies: dict[str, list[float]]) -> dict[str, Any]:
    """By variant: mean, deviation, and the paired difference to the whole recipe with its 95% t interval."""
    table: dict[str, Any] = {}
    for name, values in accuracies.items():
        table[name] = {"mean": statistics.fmean(values), "sd": statistics.stdev(values), "val_accuracy": values}
        if name != WHOLE:
            pairs = zip(values, accuracies[WHOLE], strict=True)
            table[name]["difference"] = interval([value - whole for value, whole in pairs])
    return table


def main(argv: list[str]) -> int:
    """Trains, compares, writes and prints."""
    parser = argparse.ArgumentParser("python -m benchmarks ablation", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=ABLATIONS)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--logs", type=Path, help="by default lightning_logs/ablation_<recipe>")
    arguments = parser.parse_args(argv)
    recipe, variants = arguments.recipe, ABLATIONS[arguments.recipe].variants
    logs = arguments.logs or Path("lightning_logs") / f"ablation_{recipe}"
    if arguments.runs < 2:
        parser.error(f"--runs must be at least 2, got {arguments.runs}")
    require_commit()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now
    jobs = [(recipe, name, seed, logs) for seed in range(arguments.runs) for name in variants]
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for name, record in pool.imap(train, jobs):
            records[name].append(record)
    first = records[WHOLE][0]
    for record in (record for variant in records.values() for record in variant):
        if record["commit"] != first["commit"] or record["dirty"] is not False:
            raise ConfigError(f"{record['command']}: not of the one clean commit; remove {logs}, start again")
    table = compare(
        {name: [run["metrics"]["last_epoch"]["val_accuracy"] for run in variant] for name, variant in records.items()}
    )
    keys = ("commit", "dirty", "versions", "hardware", "precision", "config")
    result = {"command": command(), **{key: first[key] for key in keys}, "n": arguments.runs}
    result["variants"] = [{"name": name, "flags": variants[name], **row} for name, row in table.items()]
    write_json(RESULTS / f"ablation_{recipe}.json", without_folders(result))
    for name, row in table.items():
        difference = row.get("difference")
        said = (
            f"{100 * difference['mean']:+.2f} ({100 * difference['low']:+.2f} to {100 * difference['high']:+.2f})"
            if difference
            else ""
        )
        print(f"{name:<50} {row['mean']:.2%}  {said}")
    return 0
