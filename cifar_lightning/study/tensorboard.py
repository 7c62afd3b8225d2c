"""A study's mean curves as TensorBoard runs, with HParams that compare its systems; TensorBoard cannot average seeds.

They lie in `<study>/means/<system>`: `--logdir <study>/means` shows the systems alone, `--logdir <study>` their seeds
as well, which the run filter `means` hides.
"""

import shutil
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from cifar_lightning.study.metrics import METRICS

MEANS = "means"


def write_means(table: dict[str, Any], logs: Path) -> None:
    """Writes every system's mean curves anew.

    Args:
        table: from `gather`.
        logs: the study's folder.
    """
    shutil.rmtree(logs / MEANS, ignore_errors=True)
    for system in table["systems"]:
        if not system["n"]:
            continue
        folder = logs / MEANS / system["name"]
        for split in ("train", "val"):
            points = {name: system["curves"].get(f"{split}_{name}", []) for name in ("loss", "accuracy")}
            if any(points.values()):
                with SummaryWriter(str(folder / split)) as writer:
                    for name, curve in points.items():
                        for point in curve:
                            writer.add_scalar(name, point["mean"], point["epoch"])
        _write_hparams(system, table["hparams"][system["name"]], folder)


def _write_hparams(system: dict[str, Any], settings: dict[str, Any], folder: Path) -> None:
    known = {key: value if isinstance(value, (int, float, str)) else str(value) for key, value in settings.items()}
    means = {f"mean/{name}": system["metrics"][name]["mean"] for name in METRICS if name in system["metrics"]}
    with SummaryWriter(str(folder)) as writer:
        assert writer.file_writer is not None
        for summary in hparams({"system": system["name"], "n": system["n"], **known}, means):
            writer.file_writer.add_summary(summary)
        for name, value in means.items():
            writer.add_scalar(name, value, system["max_epochs"])
