"""Floating point operations of the recipes, counted by torch's own counter on tensors without values.

    python -m benchmarks flops

counts, for each speed recipe, one optimizer step (forward, backward, update) and one image's evaluation, multiplies
them up as the recipe trains and tests, and writes `results/flops.json`. Counted are matrix products and convolutions.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import conditions
from cifar_lightning.config.parser import Experiment
from cifar_lightning.nets.tta import averaged_logits
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.study.flops import count

CONFIGS = [*sorted(Path("configs/speed").glob("*.yaml")), Path("configs/resnet18.yaml")]
TRAINING_IMAGES, TEST_IMAGES = 50_000, 10_000
PUBLISHED = {"airbench94_muon (Jordan's own figure, github.com/KellerJordan/cifar10-airbench)": 0.29e15}


def recipe(config: Path, flags: Sequence[str] = ()) -> dict[str, Any]:
    """The counts of a recipe with these flags: of training, of the test, and of the views that TTA adds at most."""
    experiment = Experiment("fit", ["--config", str(config), *flags, "--trainer.precision=32-true"])
    data, trainer = experiment.datamodule, experiment.config.trainer
    per_epoch = math.ceil((TRAINING_IMAGES - data.val_size) / data.batch_size)
    per_epoch = min(per_epoch, trainer.limit_train_batches or per_epoch)
    sides = [data.augment.size_in(epoch) for epoch in range(trainer.max_epochs)]
    by_side = {side: count(experiment.model, data.batch_size, side)["step"] for side in set(sides)}
    counted = count(experiment.model, data.batch_size)
    # An epoch's last, smaller batch counts as a whole one.
    train = counted["start"] + per_epoch * sum(by_side[side] for side in sides)
    total = train + TEST_IMAGES * counted["evaluation_per_image"]
    image = torch.empty(1, 3, 32, 32, device="meta")
    with FlopCounterMode(display=False) as views, torch.no_grad():
        averaged_logits(experiment.model.eval(), image, replace(experiment.model.tta, below=1.0))
    tta_at_most = TEST_IMAGES * (views.get_total_flops() - counted["evaluation_per_image"])
    return {
        "config": str(config),
        "batch_size": data.batch_size,
        "steps": per_epoch * trainer.max_epochs,
        **counted,
        "train": train,
        "total": total,
        "tta_at_most": tta_at_most,
    }


def main(argv: list[str]) -> int:
    """Counts, writes and prints."""
    parser = argparse.ArgumentParser("python -m benchmarks flops", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/flops.json"))
    arguments = parser.parse_args(argv)
    recipes = [recipe(config) for config in CONFIGS]
    result = {
        **conditions("cpu"),
        "unit": "floating point operations",
        "recipes": recipes,
        "published": PUBLISHED,
    }
    write_json(arguments.output, result)
    for row in recipes:
        print(f"{row['config']:<28} {row['steps']:>7,} steps  {row['total'] / 1e15:.4f} PFLOP")
    for name, flop in PUBLISHED.items():
        print(f"{name}: {flop / 1e15} PFLOP")
    return 0
