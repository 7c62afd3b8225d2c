"""How good and how fast is a speed recipe? Its seeds, on all 50,000 images, in turn with a rival's training.

    python -m benchmarks speed --config configs/speed/cpu78.yaml --runs 10
    python -m benchmarks speed --config configs/speed/gpu94.yaml --runs 50

trains seeds 0 to runs - 1 as a user would, scores each once on the test set, and writes `results/speed_<recipe>.json`.
On a CPU it times a shortened training of a rival (see rivals.py; by default the report's, in a bare loop) before,
after and in between, in bf16 and in float32, since it depends on the CPU which is faster. The number of runs is fixed
before the first one is looked at. With --record each run goes into `results/runs/<recipe>/` when it ends, and a later
go trains the seeds that are missing there; the times are those of the last seed's machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import command
from benchmarks.recipes import fit, interval, require_commit
from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.environment import place
from cifar_lightning.runs.record import RESULTS, RUNS, read_record
from cifar_lightning.runs.results import read_results, record_run
from cifar_lightning.runs.settings import differing, settings_of, without_folders

PRECISIONS = ("bf16", "float32")


def time_rival(rival: str) -> list[dict[str, Any]]:
    """The rival's seconds in each precision, of processes of their own, as a script would run."""
    timings = []
    for precision in PRECISIONS:
        timing = [sys.executable, "-m", "benchmarks", "rivals", rival, "--precision", precision]
        printed = subprocess.run(timing, check=True, stdout=subprocess.PIPE, text=True).stdout
        timings.append(json.loads(printed.splitlines()[-1]))
        print("{name}, {precision}: {total_s:.0f} s, extrapolated from {timed}".format(**timings[-1]), flush=True)
    return timings


def rival_turns(run_dir: int, rounds: int) -> list[int]:
    """Before which of the runs, counted from 0, the rival is timed; `runs` stands for after the last."""
    return sorted({round(turn * run_dir / (rounds - 1)) for turn in range(rounds)}) if rounds else []


def _accuracy(values: list[float]) -> dict[str, float]:
    return {"sd": statistics.stdev(values), **interval(values)}


def summarise(records: list[dict[str, Any]], rivals: list[dict[str, Any]]) -> dict[str, Any]:
    """What the runs and the timings of the rival say. The rival's accuracy is not looked at.

    Times are those of the runs on the last one's machine.

    `rival_over_recipe` is of each of the rival's precisions; with `_tta` the recipe's time is that with its TTA.
    """
    names = ("train_s", "evaluation_s", "total_s", "evaluation_tta_s", "total_tta_s")
    machines = [place(run["hardware"]) for run in records]
    timed_runs = [run["speed"] for run, machine in zip(records, machines, strict=True) if machine == machines[-1]]
    seconds = {name: [run[name] for run in timed_runs if name in run] for name in names}
    median_s = {name: statistics.median(values) for name, values in seconds.items() if values}
    precisions = dict.fromkeys(rival["precision"] for rival in rivals)
    rival_s = {
        precision: statistics.median(rival["total_s"] for rival in rivals if rival["precision"] == precision)
        for precision in precisions
    }
    result: dict[str, Any] = {
        "n": len(records),
        "test_accuracy": _accuracy([run["metrics"]["test"]["accuracy"] for run in records]),
        "median_s": median_s,
        "rival_over_recipe": {name: seconds / median_s["total_s"] for name, seconds in rival_s.items()},
        "runs": [
            {
                "seed": run["seed"], "test_accuracy": run["metrics"]["test"]["accuracy"], **run["speed"],
                "commit": run["commit"], "machine": machine,
            }
            for run, machine in zip(records, machines, strict=True)
        ],
    }  # fmt: skip
    if rivals:
        timed = {name: rivals[0][name] for name in ("name", "timed")}
        result["rival"] = {**timed, "median_s": rival_s, "rounds": rivals}
    augmented = [run["metrics"]["test_tta"]["accuracy"] for run in records if "test_tta" in run["metrics"]]
    if augmented:
        result["tta"] = records[0]["metrics"]["test_tta"]["views"]
        result["test_accuracy_tta"] = _accuracy(augmented)
        result["rival_over_recipe_tta"] = {name: seconds / median_s["total_tta_s"] for name, seconds in rival_s.items()}
        for row, accuracy in zip(result["runs"], augmented, strict=True):
            row["test_accuracy_tta"] = accuracy
    return result


def recorded(config: Path) -> list[dict[str, Any]]:
    """The runs that an earlier go has recorded. Raises ConfigError: the recipe's settings were others."""
    runs = [files.run.to_json() for _, files in read_results(RESULTS) if files.run.recipe == config.stem]
    if runs:
        now, before = (
            settings_of(Experiment("fit", ["--config", str(config)]).resolved()),
            settings_of(runs[0]["config"]),
        )
        if changed := differing(now, before):
            raise ConfigError(
                f"{RESULTS / RUNS / config.stem} holds runs with other settings ({', '.join(changed)}): remove them to "
                "record the recipe anew"
            )
    return runs


def main(argv: list[str]) -> int:
    """Trains, times, writes and prints."""
    parser = argparse.ArgumentParser("python -m benchmarks speed", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/speed/cpu78.yaml"))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rival", default="report", help="'report', or the path of airbench94_muon.py")
    parser.add_argument("--rounds", type=int, default=3, help="how often the rival is timed: 0, or at least 2")
    parser.add_argument("--record", action="store_true", help="keep each run in results/runs/<recipe>/")
    parser.add_argument("--logs", type=Path, default=Path("lightning_logs/speed"), help="must not exist yet")
    arguments = parser.parse_args(argv)
    if arguments.runs < 2:
        parser.error(f"--runs must be at least 2, got {arguments.runs}")
    if arguments.rounds < 0 or arguments.rounds == 1:
        parser.error(f"--rounds must be 0 or at least 2, got {arguments.rounds}")
    if arguments.logs.exists():
        parser.error(f"{arguments.logs} is there already: runs of several goes cannot be told apart; remove it")
    require_commit()
    records = recorded(arguments.config) if arguments.record else []
    seeds = [seed for seed in range(arguments.runs) if seed not in [run["seed"] for run in records]]
    # The rivals of rivals.py are made for a CPU: on a GPU the recipe's own figures are all.
    turns = [] if torch.cuda.is_available() else rival_turns(len(seeds), arguments.rounds)
    rivals = []
    for turn, seed in enumerate([*seeds, None]):
        if turn in turns:
            rivals += time_rival(arguments.rival)
        if seed is not None:
            folder = fit(arguments.config, seed, arguments.logs / f"seed-{seed}")
            records.append(read_record(folder).to_json())
            if arguments.record:
                print(f"recorded {record_run(folder, RESULTS)}", flush=True)
    last = records[-1]
    if not arguments.record and any(run["dirty"] is not False or run["commit"] != last["commit"] for run in records):
        raise ConfigError("the code changed while the runs ran: start again")
    if any(run["precision"] != last["precision"] for run in records):
        raise ConfigError("the runs are not all of one precision")
    keys = ("commit", "dirty", "versions", "hardware", "precision", "config")
    result = {"command": command(), **{key: last[key] for key in keys}}
    result |= summarise(records, rivals)
    output = RESULTS / f"speed_{last['recipe']}.json"
    write_json(output, without_folders(result))
    shown = ("test_accuracy", "test_accuracy_tta", "median_s", "rival_over_recipe", "rival_over_recipe_tta")
    print(json.dumps({name: result[name] for name in shown if name in result}, indent=2))
    print(f"written  {output}")
    return 0
