"""All that no CPU can show, on one GPU in forty minutes, piece by piece.

    git clone https://github.com/KellerJordan/cifar10-airbench
    python -m benchmarks gpu_day --airbench cifar10-airbench
    python -m benchmarks gpu_day --airbench cifar10-airbench --minutes 9     # as often as pieces are left

runs the tests, stops and resumes a training, times the guard against non-finite numbers, trains on two GPUs where there
are two, and trains gpu94 (50 seeds) and gpu96 (10 seeds) in turn with airbench94_muon and airbench96_faster. Each piece
is written to the JSON when it ends, and the same command goes on with the next. With `--minutes` no piece begins later
than that; the longest takes about two. Each seed is scored on the test set once. The rivals' scripts run as they are,
but for the number of their runs and the place of the data; their first run, which compiles, is left out.

`--miniature` goes through all of it on a CPU with the sample and two steps a run: it measures nothing.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import guard
from benchmarks.measure import conditions
from benchmarks.recipes import fit, interval, require_commit
from benchmarks.workbench import find_data
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.errors import ConfigError, UserError
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.record import RESULTS, read_record

RIVALS = {"gpu94": "airbench94_muon.py", "gpu96": "airbench96_faster.py"}
MINIATURE = [
    "--data.source=sample", "--trainer.accelerator=cpu", "--trainer.limit_train_batches=2", "--trainer.max_epochs=1",
]  # fmt: skip
SMALL_NET = ["--model.compile=false", "--model.net.widths=[8,16,16]", "--model.net.depth=2"]
RIVAL_RUNS = 200  # in the scripts themselves

Result = dict[str, Any]


@dataclass(frozen=True)
class Day:
    """What is measured, where."""

    airbench: Path  # a clone of cifar10-airbench
    folder: Path  # of the runs
    is_miniature: bool
    seeds: dict[str, int]  # by recipe
    block: int  # seeds until the rival has its turn

    def flags(self, *small: str) -> list[str]:
        """Those that a `fit` gets besides."""
        return [*MINIATURE, *small] if self.is_miniature else []


def pieces(day: Day) -> dict[str, Callable[[], Result]]:
    """What is to be done, by name and in order. Each returns its figures, or why it was left out as `skipped`."""
    found: dict[str, Callable[[], Result]] = {
        "tests": partial(tests, day),
        "resume": partial(resume, day),
        "guard": partial(guard_cost, day),
        "two devices": partial(two_devices, day),
    }
    for recipe, rival in RIVALS.items():
        for first in range(0, day.seeds[recipe], day.block):
            block = range(first, min(first + day.block, day.seeds[recipe]))
            for seed in block:
                found[f"{recipe} seed {seed}"] = partial(trained, day, recipe, seed)
            name = f"{rival} runs {block.start} to {block.stop - 1}"
            found[name] = partial(rival_runs, day, rival, len(block))
    return found


def tests(day: Day) -> Result:
    """The quick tests, which take the GPU where they ask for none."""
    chosen = ["tests/test_metrics.py"] if day.is_miniature else ["-n", str(os.cpu_count()), "-m", "not slow"]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *chosen], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"exit_code": done.returncode, "summary": lines[-1] if lines else done.stderr[-300:], "failed": failed}


def resume(day: Day) -> Result:
    """Whether a training that Ctrl-C has stopped goes on to the same weights, to the bit."""
    epochs = 15 if day.is_miniature else 3  # long enough to be stopped in the middle
    flags = [*day.flags(), "--trainer.deterministic=true", f"--trainer.max_epochs={epochs}", "--final_test=false"]
    config = Path("configs/report/final.yaml")
    whole = fit(config, 0, day.folder / "whole", *flags)
    logs = day.folder / "cut"
    command = [sys.executable, "-m", "cifar_lightning", "fit", "--config", str(config), *flags]
    with subprocess.Popen([*command, f"--trainer.default_root_dir={logs}"], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("epoch   1/"):
                run.send_signal(signal.SIGINT)
    (checkpoint,) = logs.glob("*/*/checkpoints/last.ckpt")
    subprocess.run([sys.executable, "-m", "cifar_lightning", "fit", "--ckpt", str(checkpoint)], check=True)
    states = [_weights(path) for path in (whole / "checkpoints/last.ckpt", checkpoint)]
    different = [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    return {"stopped_with": run.returncode, "tensors": len(states[0]), "different": different}


def guard_cost(day: Day) -> Result:
    """What NanGuard adds to a step of a net of one layer, in microseconds by the clock."""
    rounds, block_steps = (2, 3) if day.is_miniature else (guard.ROUNDS, guard.BLOCK_STEPS)
    threads = torch.get_num_threads()
    try:
        return guard.measure(rounds, block_steps, "cpu" if day.is_miniature else "cuda")
    finally:
        torch.set_num_threads(threads)  # those of the conditions


def two_devices(day: Day) -> Result:
    """How far the weights of an epoch on two GPUs (NCCL) lie from those on one. Without dropout, whose numbers differ.

    Batch norm takes both GPUs together, which no CPU can: there the distance says nothing.
    """
    if not day.is_miniature and torch.cuda.device_count() < 2:
        return {"skipped": f"{torch.cuda.device_count()} GPU"}
    flags = [*day.flags(), "--trainer.precision=32-true", "--trainer.max_epochs=1", "--final_test=false"]
    flags += ["--data.batch_size=128", "--model.net.dropout=0", "--model.optimizer=SGD", "--model.optimizer.lr=0.01"]
    flags += [f"--trainer.sync_batchnorm={'false' if day.is_miniature else 'true'}"]
    states = []
    for devices in (1, 2):
        folder = fit(Path("configs/report/final.yaml"), 0, day.folder / f"{devices} devices",
                     *flags, f"--trainer.devices={devices}")  # fmt: skip
        states.append(_weights(folder / "checkpoints/last.ckpt"))
    values = [(one, states[1][name]) for name, one in states[0].items() if one.is_floating_point()]
    distances = [float((one - other).norm() / one.norm().clamp(min=1e-12)) for one, other in values]
    return {"largest_relative_distance_of_a_tensor": max(distances)}


def trained(day: Day, recipe: str, seed: int) -> Result:
    """A seed of a recipe: accuracies and seconds, compilation left out."""
    flags = [*day.flags(*SMALL_NET), *(["--data.batch_size=100"] if day.is_miniature else [])]
    record = read_record(fit(Path(f"configs/speed/{recipe}.yaml"), seed, day.folder / f"{recipe}-{seed}", *flags))
    accuracies = {name: record.metrics[name]["accuracy"] for name in ("test", "test_tta")}
    return {"precision": record.precision, "accuracy": accuracies, "speed": record.speed}


def rival_runs(day: Day, script: str, runs: int) -> Result:
    """The accuracies with test-time augmentation and the seconds that a script of airbench prints of its runs."""
    text = (day.airbench / script).read_text(encoding="utf-8")
    data = CIFAR10DataModule(val_size=0, source="sample") if day.is_miniature else find_data(0)
    for stage in ("fit", "test"):
        data.setup(stage)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cifar10").mkdir()
        for name in ("train", "test"):
            images, labels = data.images_of(name)
            content = {"images": images, "labels": labels, "classes": data.class_names}
            torch.save(content, Path(folder) / "cifar10" / f"{name}.pt")
        copy = Path(folder) / script
        copy.write_text(text.replace(f"range({RIVAL_RUNS})", f"range({runs + 1})"), encoding="utf-8")
        done = subprocess.run([sys.executable, script], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if re.match(r"\|[^|]*\|\s*eval\s*\|", line)]
    # A warm-up comes first, or the first run compiles; where both are printed the last ones count.
    return {"accuracy": [float(row[-2]) for row in rows[-runs:]], "total_s": [float(row[-1]) for row in rows[-runs:]]}


def summary(done: dict[str, Result], runs: dict[str, int]) -> Result:
    """Of each recipe whose seeds are all there: accuracy with its interval, median seconds, and the rival's."""
    found = dict[str, Any]()
    for recipe, script in RIVALS.items():
        own = [piece for name, piece in done.items() if name.startswith(f"{recipe} seed")]
        rivals = [piece for name, piece in done.items() if name.startswith(script)]
        rival_s = [value for piece in rivals for value in piece["total_s"]]
        if len(own) < runs[recipe] or min(len(own), len(rival_s)) < 2:
            continue
        seconds = [piece["speed"]["total_tta_s"] for piece in own]
        rival_accuracy = [value for piece in rivals for value in piece["accuracy"]]
        found[recipe] = {
            "n": len(own),
            "test_accuracy": interval([piece["accuracy"]["test"] for piece in own]),
            "test_accuracy_tta": interval([piece["accuracy"]["test_tta"] for piece in own]),
            "median_s": statistics.median(seconds),
            "rival": {
                "script": script, "n": len(rival_s), "test_accuracy_tta": interval(rival_accuracy),
                "median_s": statistics.median(rival_s),
            },
            "rival_over_recipe": statistics.median(rival_s) / statistics.median(seconds),
        }  # fmt: skip
    return found


def _weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("net.")}


def _due(day: Day, done: dict[str, Result], until: float) -> Iterator[tuple[str, Callable[[], Result]]]:
    for name, work in pieces(day).items():
        if name not in done:
            if time.monotonic() > until:
                return
            yield name, work


def main(argv: list[str]) -> int:
    """Does what is left, and writes."""
    parser = argparse.ArgumentParser("python -m benchmarks gpu_day", description=__doc__.splitlines()[0])
    parser.add_argument("--airbench", type=Path, required=True, help="a clone of KellerJordan/cifar10-airbench")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no piece begins")
    parser.add_argument("--seeds94", type=int, default=50)
    parser.add_argument("--seeds96", type=int, default=10)
    parser.add_argument("--block", type=int, default=10, help="seeds until the rival has its turn")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu_day.json")
    parser.add_argument("--miniature", action="store_true", help="all of it on a CPU, in a minute or two")
    options = parser.parse_args(argv)
    if not options.miniature and not torch.cuda.is_available():
        parser.error("there is no GPU; --miniature goes through all of it on a CPU")
    if missing := [script for script in RIVALS.values() if not (options.airbench / script).is_file()]:
        parser.error(
            f"{options.airbench} has no {missing[0]}: give a clone of github.com/KellerJordan/cifar10-airbench"
        )
    if not options.miniature:
        require_commit()
    until = time.monotonic() + 60 * options.minutes
    now = conditions("cpu" if options.miniature else "cuda")
    recorded: Result = {**now, "is_miniature": options.miniature, "pieces": {}}
    if options.output.exists():
        recorded = json.loads(options.output.read_text(encoding="utf-8"))
        if changed := [name for name in ("commit", "versions", "hardware") if recorded[name] != now[name]]:
            raise ConfigError(f"{options.output} is of another {changed[0]}: give another --output, or remove it")
    runs = {"gpu94": options.seeds94, "gpu96": options.seeds96}
    done: dict[str, Result] = recorded["pieces"]
    with tempfile.TemporaryDirectory() as folder:
        day = Day(options.airbench, Path(folder), options.miniature, runs, options.block)
        for name, work in _due(day, done, until):
            began = time.monotonic()
            try:
                done[name] = work()
            except (subprocess.CalledProcessError, ValueError, OSError) as error:
                raise UserError(
                    f"{name}: {' '.join(str(error).split())}; the same command goes on from here"
                ) from error
            done[name]["seconds"] = round(time.monotonic() - began, 1)
            write_json(options.output, recorded | {"summary": summary(done, runs)})
            print(f"{name}: {json.dumps(done[name])}", flush=True)
        left = [name for name in pieces(day) if name not in done]
    print(f"{len(left)} pieces left; the same command goes on" if left else json.dumps(summary(done, runs), indent=2))
    return 0
