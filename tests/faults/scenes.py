"""The runs that the matrix cuts, and how they are brought to an end."""

import shutil
from pathlib import Path
from typing import Any

from faults.forked import Fault, ForkServer
from run_folders import only_run, wait_for_the_next_second
from tiny import TINY_FLAGS

# Everything that has a state: augmentation, dropout (the net's own), a schedule, averaged weights, Muon, bf16.
EVERYTHING = [
    *TINY_FLAGS, "--trainer.max_epochs=3", "--trainer.precision=bf16-mixed", "--model.optimizer=MuonSGD",
    "--model.optimizer.lr=0.02", "--model.optimizer.dense_lr=0.05", "--model.scheduler=TriangularLR",
    "--model.scheduler.start=0.2", "--model.scheduler.peak=0.4", "--model.scheduler.end=0.1",
    "--data.augment.flip=alternating", "--data.augment.crop_padding=2", "--data.augment.cutout=6",
    "--data.augment.policy=randaugment", "--data.augment.erasing=0.3", "--data.augment.mixup=0.4",
    "--data.augment.cutmix=1.0",
    "--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.8",
]  # fmt: skip
STEPS = 15  # 5 an epoch


def at(hook: str, step: int, deed: str, **settings: object) -> Fault:
    """The fault of that name."""
    return ("at", {"hook": hook, "step": step, "deed": deed, **settings})


def until_it_ends(cli: ForkServer, cuts: list[list[Fault]]) -> Path:
    """Starts, is killed by the first cut, goes on, is killed by the next, and ends; returns the run's folder."""
    begun = False
    for faults in [*cuts, []]:
        resumes = begun and any(Path().glob("lightning_logs/*/*/checkpoints/last.ckpt"))
        if begun and not resumes:  # killed before the first save: there is nothing to go on with, and it says so
            exit_code, _, err = cli.run("fit", "--ckpt", "last")
            assert exit_code == 4, err
            shutil.rmtree("lightning_logs")
        wait_for_the_next_second()
        exit_code, _, err = cli.run("fit", *(["--ckpt", "last"] if resumes else EVERYTHING), faults=faults)
        assert exit_code == (-9 if faults else 0), err
        begun = True
    folder = only_run()
    assert_no_remains(folder)
    return folder


def assert_no_remains(folder: Path) -> None:
    """No temporary file and no lock."""
    assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)
