"""Tries a change of a speed recipe on the validation split, and keeps what came out, whether it helped or not.

    python -m benchmarks trials "8 epochs, as it is" --seeds 4
    python -m benchmarks trials "7 epochs" --seeds 4 -- --trainer.max_epochs=7
    python -m benchmarks trials "7 epochs" --verdict "not kept: 0.3 points less for 12% of the time"

trains the recipe (by default cpu94) with these flags on 45,000 images, one seed after the other, and scores the other
5,000 with its test-time augmentation. `results/trials.json` gets the accuracies, the seconds of training, the floating
point operations and the verdict of each try. The test set is left alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import flops
from benchmarks.measure import command
from benchmarks.recipes import finished_run, fit, interval, require_commit
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.record import RESULTS, read_record

OUTPUT = RESULTS / "trials.json"
VALIDATED = ["--data.val_size=5000", "--final_test=false"]
KEPT = ("commit", "versions", "hardware", "precision")


def tried(name: str, config: Path, flags: list[str], seeds: int, logs: Path) -> dict[str, Any]:
    """Trains and scores what has not been yet; returns the try's entry."""
    runs, records = [], []
    for seed in range(seeds):
        place = logs / f"{name.replace('/', '-')}-{seed}"
        if finished_run(place) is None:
            fit(config, seed, place, *VALIDATED, *flags)
        (folder,) = place.glob("*/*")
        checkpoint = folder / "checkpoints" / "last.ckpt"
        scored = [sys.executable, "-m", "cifar_lightning", "validate", "--ckpt", str(checkpoint)]
        subprocess.run(scored, check=True, stdout=subprocess.DEVNULL)
        score = json.loads((folder / "validate.json").read_text(encoding="utf-8"))
        record = read_record(folder)
        if record.dirty is not False:
            raise ConfigError(f"the code had changed when {folder} began: remove it, and start again")
        runs.append(
            {
                "seed": seed,
                "val_accuracy": score["accuracy"],
                "val_accuracy_tta": score["tta"]["accuracy"],
                "train_s": record.timings["train_s"],
            }
        )
        records.append(record)
    content = records[0].to_json()
    if any(record.commit != records[0].commit for record in records):
        raise ConfigError(f"the runs in {logs} are of several commits: remove them, and start again")
    return {
        "flags": flags,
        "command": command(),
        **{key: content[key] for key in KEPT},
        "n": seeds,
        "val_accuracy": interval([run["val_accuracy"] for run in runs]),
        "val_accuracy_tta": interval([run["val_accuracy_tta"] for run in runs]),
        "median_train_s": statistics.median(run["train_s"] for run in runs),
        "train_flop": flops.recipe(config, flags)["train"],
        "runs": runs,
    }


def main(argv: list[str]) -> int:
    """Tries, or notes a verdict; writes and prints."""
    about = f"{__doc__.splitlines()[0]} Behind -- stand flags of fit."
    parser = argparse.ArgumentParser("python -m benchmarks trials", description=about)
    parser.add_argument("name", help="of the try")
    parser.add_argument("--config", type=Path, default=Path("configs/speed/cpu94.yaml"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--verdict", help="kept or not, and why: only noted")
    parser.add_argument("--logs", type=Path, default=Path("lightning_logs/trials"))
    split = argv.index("--") if "--" in argv else len(argv)
    arguments, flags = parser.parse_args(argv[:split]), argv[split + 1 :]
    if arguments.seeds < 2:
        parser.error("--seeds must be at least 2: one run has no spread")
    entry = None
    if arguments.verdict is None:
        require_commit()
        entry = tried(arguments.name, arguments.config, flags, arguments.seeds, arguments.logs / arguments.config.stem)
    keep(arguments.config.stem, arguments.name, entry, arguments.verdict, OUTPUT, parser)
    return 0


def keep(
    recipe: str, name: str, entry: dict[str, Any] | None, verdict: str | None, output: Path,
    parser: argparse.ArgumentParser,
) -> None:  # fmt: skip
    """Writes a try's entry, or without one the verdict of an earlier try, and prints all tries of the recipe."""
    # Read only now: another try may have ended meanwhile.
    content = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    of_recipe = content.setdefault(recipe, {})
    if entry is not None:
        of_recipe[name] = entry
    elif name in of_recipe:
        of_recipe[name]["verdict"] = verdict
    else:
        parser.error(f"{name!r} has not been tried; there is {', '.join(of_recipe) or 'nothing'}")
    write_json(output, content)
    for known, kept in of_recipe.items():
        accuracy, pflop = kept["val_accuracy_tta"]["mean"], kept["train_flop"] / 1e15
        print(f"{known}: {accuracy:.2%} (n = {kept['n']}), {kept['median_train_s']:.0f} s, {pflop:.4f} PFLOP")
