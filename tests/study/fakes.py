"""Studies of a tiny net, and runs of them that never ran: the files that a run leaves, with chosen figures."""

import functools
import json
from pathlib import Path
from typing import Any

from cifar_lightning.config.parser import Experiment
from cifar_lightning.runs import environment
from cifar_lightning.study.spec import System

BASE = """\
model:
  net:
    class_path: cifar_lightning.nets.report_cnn.ReportCNN
    init_args: {channels: [4, 4, 8], hidden_features: [8, 8]}
data: {source: sample, val_size: 0, batch_size: 32}
trainer: {max_epochs: 3, limit_train_batches: 4, accelerator: cpu}
"""

CLASSES = [f"class {number}" for number in range(10)]


def write_study(text: str, name: str = "tiny", base: str = BASE) -> Path:
    """`base.yaml` and the study file beside it, in the current folder."""
    Path("base.yaml").write_text(base)
    path = Path(f"{name}.yaml")
    path.write_text(text)
    return path


@functools.cache
def _config(*flags: str) -> dict[str, Any]:
    return Experiment("fit", list(flags)).resolved()


def write_run(
    logs: Path,
    system: System,
    seed: int,
    accuracy: float,
    losses: tuple[float, ...] = (2.0, 1.5, 1.0),
    rate: float = 1000.0,
    picture: bytes | None = None,
    val_losses: tuple[float, ...] = (),
    **changes: Any,
) -> Path:
    """The small files of one run into the study's folder `logs`; `changes` go into its run.json.

    With `val_losses`, one per epoch, it had a validation split; its accuracy there is `accuracy`.
    """
    config = _config(*system.flags()) | {"seed_everything": seed}
    name = f"2026-01-01_00-00-{seed:02}-s{seed}"
    folder = logs / system.name / "sample-base" / name
    folder.mkdir(parents=True)
    correct = round(accuracy * 1000)
    row = [correct // 10] + [0] * 8 + [100 - correct // 10]
    record = {
        "recipe": "sample-base", "seed": seed, "status": "finished", "source": "the CIFAR-10 sample (6,000 images)",
        "sample": "asked for", "started_at": f"2026-01-01T00:00:{seed:02}+00:00", "command": "fit", "commit": "a" * 40,
        "dirty": False, "package_digest": environment.package_digest(), "versions": {"torch": "2.11.0"},
        "hardware": {"cpu": "A CPU", "threads": 2}, "precision": "32-true", "config": config,
        "data": {"train": 128, "val": 0}, "parameters": 1, "finished_at": "2026-01-01T00:01:00+00:00",
        "timings": {"train_s": 6.0, "val_s": 0.0},
        "metrics": {
            "epochs": len(losses),
            "last_epoch": {"epoch": len(losses), "train_loss": losses[-1], "train_accuracy": accuracy},
            "test": {
                "images": 1000, "accuracy": accuracy, "loss": losses[-1],
                "per_class_accuracy": dict.fromkeys(CLASSES, accuracy), "confusion_matrix": [row] * 10,
            },
        },
        **changes,
    }  # fmt: skip
    rows = [f"{epoch},0.001,{loss},{accuracy}" for epoch, loss in enumerate(losses, start=1)]
    header = "epoch,learning_rate,train_loss,train_accuracy"
    if val_losses:
        record["metrics"]["last_epoch"] |= {"val_loss": val_losses[-1], "val_accuracy": accuracy}
        rows = [f"{row},{loss},{accuracy}" for row, loss in zip(rows, val_losses, strict=True)]
        header += ",val_loss,val_accuracy"
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.csv").write_text("\n".join([header, *rows, ""]))
    times = [f"{epoch},2,0,{rate}" for epoch in range(1, len(losses) + 1)]
    (folder / "timings.csv").write_text("\n".join(["epoch,train_s,val_s,images_per_second", *times, ""]))
    if picture is not None:
        (folder / "mistakes.png").write_bytes(picture)
    return folder
