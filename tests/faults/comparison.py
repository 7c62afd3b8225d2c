"""Whether two runs are the same run, bit for bit."""

import csv
from pathlib import Path
from typing import Any

import torch
from run_folders import record_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lightning.runs import checkpoint

# Wall-clock seconds, and what names the folder.
OTHERWISE = ("Timing", "best", "last")


def content_of(folder: Path, which: str = "last") -> dict[str, Any]:
    return checkpoint.load(folder / "checkpoints" / f"{which}.ckpt").content


def epochs_of(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def curves_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every point that TensorBoard shows of the two sub-runs, without the throughput."""
    found = {}
    for split in ("train", "val"):
        events = EventAccumulator(str(folder / split))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            if tag != "images_per_second":
                found[f"{split}/{tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """The places where two nested contents differ; tensors are compared bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        same = same and torch.equal(
            one.contiguous().flatten().view(torch.uint8), other.contiguous().flatten().view(torch.uint8)
        )
        return [] if same else [name]
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{name}: {sorted(map(str, one.keys() ^ other.keys()))}"]
        return [place for key in one for place in differences(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return [f"{name}: {len(one)} and {len(other)}"]
        pairs = zip(one, other, strict=True)
        return [place for index, pair in enumerate(pairs) for place in differences(*pair, f"{name}[{index}]")]
    return [] if one == other or (one != one and other != other) else [f"{name}: {one!r} and {other!r}"]


PARTS = (
    "state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step", "epoch",
)  # fmt: skip


def run_differences(one: Path, other: Path) -> list[str]:
    """The places where two finished runs differ: weights, optimizer, schedule, random states, epochs, curves, score."""
    found = []
    for which in ("last", "best"):
        contents = [content_of(folder, which) for folder in (one, other)]
        for part in PARTS:
            found += differences(*(content.get(part) for content in contents), f"{which}.{part}")
        random = [content["random"] for content in contents]
        found += differences(*random, f"{which}.random") if which == "last" else []
    tables = [(folder / "metrics.csv").read_bytes() for folder in (one, other)]
    found += ["metrics.csv"] if tables[0] != tables[1] else []
    found += differences(*(curves_of(folder) for folder in (one, other)), "tensorboard")
    return found + differences(*(record_of(folder)["metrics"] for folder in (one, other)), "run.json")
