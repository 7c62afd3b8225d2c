"""How good and how fast is a speed recipe? Its seeds, on all 50,000 images, beside a bare loop over the report's net.

    python benchmarks/speed.py --config configs/speed/cpu78.yaml --runs 10

trains seeds 0 to runs - 1 in turn with the bare loop (the report's net and batch in bf16 and channels_last, a few
epochs, timed before, halfway and after, and extrapolated to the report's 30), scores each run once on the test set, and
writes `results/speed_<recipe>.json`. The number of runs is fixed before the first one is looked at.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from cifar_lightning import cpu, environment, runs
from cifar_lightning.bench.contestants import bare_loop
from cifar_lightning.bench.effort import FULL
from cifar_lightning.bench.stopwatch import Span
from cifar_lightning.bench.workbench import Workbench, find_data
from cifar_lightning.environment import native_precision
from cifar_lightning.files import write_json
from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.settings import without_folders

REPORT_EPOCHS, REPORT_BATCH = 30, 30
WARMUP_STEPS = 20


def time_bare_loop(epochs: int) -> float:
    """Seconds of one of the report's epochs over all 50,000 images, over `epochs` of them; in this process."""
    if not torch.cuda.is_available():
        cpu.skip_gpu_search()  # in the bare loop's favour
    data = find_data(0)
    data.setup("fit")
    per_epoch = -(-data.sizes["train"] // REPORT_BATCH)
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench("cpu", FULL, data, Path(folder))
        span = Span(REPORT_BATCH, WARMUP_STEPS, epochs * per_epoch)
        return per_epoch * bare_loop(bench, ReportCNN(), span, native_precision("cpu"))


def bare_epoch(epochs: int) -> float:
    """The same in a process of its own, as a script would run."""
    command = [sys.executable, __file__, "--bare-epochs", str(epochs)]
    seconds = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(f"bare loop: {seconds:.1f} s per epoch of the report's net", flush=True)
    return seconds


def train(config: Path, seed: int, logs: Path) -> dict[str, Any]:
    """Trains one seed of the recipe as a user would; returns its record."""
    logs = logs / f"seed-{seed}"
    places = ["--seed_everything", str(seed), "--trainer.default_root_dir", str(logs)]
    subprocess.run([sys.executable, "-m", "cifar_lightning", "fit", "--config", str(config), *places], check=True)
    (folder,) = logs.glob("*/*")
    return runs.read_record(folder)


def interval(values: list[float]) -> dict[str, float]:
    """Mean, standard deviation and 95% t interval of the mean."""
    mean = statistics.fmean(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
    return {"mean": mean, "sd": statistics.stdev(values), "low": float(low), "high": float(high)}


def summarise(records: list[dict[str, Any]], epochs_s: list[float]) -> dict[str, Any]:
    """What the runs and the bare loop's epochs say."""
    names = ("train_s", "evaluation_s", "total_s", "evaluation_tta_s", "total_tta_s")
    seconds = {name: [run["speed"][name] for run in records if name in run["speed"]] for name in names}
    report_s = REPORT_EPOCHS * statistics.median(epochs_s)
    total_s = statistics.median(seconds["total_s"])
    result = {
        "n": len(records),
        "test_accuracy": interval([run["metrics"]["test"]["accuracy"] for run in records]),
        "median_s": {name: statistics.median(values) for name, values in seconds.items() if values},
        "bare_loop_epoch_s": epochs_s,
        "report_30_epochs_s": report_s,
        "report_over_recipe": report_s / total_s,
        "runs": [
            {"seed": run["seed"], "test_accuracy": run["metrics"]["test"]["accuracy"], **run["speed"]}
            for run in records
        ],
    }
    augmented = [run["metrics"]["test_tta"]["accuracy"] for run in records if "test_tta" in run["metrics"]]
    if augmented:
        result["tta"] = records[0]["metrics"]["test_tta"]["views"]
        result["test_accuracy_tta"] = interval(augmented)
        for row, accuracy in zip(result["runs"], augmented, strict=True):
            row["test_accuracy_tta"] = accuracy
    return result


def main() -> None:
    """Trains, times, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/speed/cpu78.yaml"))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=2, help="of the bare loop, each time")
    parser.add_argument("--logs", type=Path, default=Path("lightning_logs/speed"), help="must not exist yet")
    parser.add_argument("--bare-epochs", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare_epochs:
        print(time_bare_loop(arguments.bare_epochs))
        return
    if arguments.runs < 2:
        parser.error(f"--runs must be at least 2, got {arguments.runs}")
    if arguments.logs.exists():
        parser.error(f"{arguments.logs} is there already: runs of several goes cannot be told apart; remove it")
    if environment.commit()["dirty"] is not False:
        sys.exit("this code is in no commit (or files lie beside it that are in none): commit, then start again")
    if torch.cuda.is_available():
        parser.error("the bare loop is that of a CPU: hide the GPU with CUDA_VISIBLE_DEVICES=")
    epochs_s = [bare_epoch(arguments.epochs)]
    records = []
    for seed in range(arguments.runs):
        records.append(train(arguments.config, seed, arguments.logs))
        if seed == arguments.runs // 2 - 1:
            epochs_s.append(bare_epoch(arguments.epochs))
    epochs_s.append(bare_epoch(arguments.epochs))
    first = records[0]
    if any(run["dirty"] is not False or run["commit"] != first["commit"] for run in records):
        sys.exit("the code changed while the runs ran: start again")
    keys = ("commit", "dirty", "versions", "hardware", "precision", "config")
    result = {"command": " ".join(["python", *sys.argv]), **{key: first[key] for key in keys}}
    result |= summarise(records, epochs_s)
    output = Path("results") / f"speed_{first['recipe']}.json"
    write_json(output, without_folders(result))
    print(json.dumps({name: result[name] for name in ("test_accuracy", "median_s", "report_over_recipe")}, indent=2))
    print(f"written  {output}")


if __name__ == "__main__":
    main()
