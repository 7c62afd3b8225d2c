"""A runner that trains nothing: each look at it gives every job one more epoch, whose figure follows from its flags."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

from study.fakes import BASE as SHORT

from cifar_lightning.runner.job import Job

BASE = SHORT.replace("max_epochs: 3", "max_epochs: 6").replace("limit_train_batches: 4", "limit_train_batches: 8")

SPACE = """\
  model.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
  data.batch_size: {low: 16, high: 64, step: 16}
  model.scheduler: {choices: [null, CosineLR]}
"""
TINY = f"base: base.yaml\nval_size: 200\nepochs: 4\nspace:\n{SPACE}"


def write_search(text: str = "trials: 4\n", name: str = "tiny") -> Path:
    """The search's file and its base beside it, in the current folder."""
    Path("base.yaml").write_text(BASE)
    path = Path(f"{name}.yaml")
    path.write_text(TINY + text)
    return path


def flag(job: Job, name: str) -> str:
    """The last value of a flag in a job's command."""
    return [part.partition("=")[2] for part in job.argv if part.startswith(f"--{name}=")][-1]


def figure(lr: float, epoch: int) -> float:
    """Best at 0.01, better with each epoch."""
    return 0.5 - abs(math.log10(lr) + 2) / 8 + 0.02 * epoch


class FakeRunner:
    """Runs jobs without processes; `meddle` may end one early with an exit code, or raise."""

    def __init__(self, room: int = 1, meddle: Callable[[Job, int], int | None] = lambda job, epoch: None) -> None:
        self.room = room
        self.meddle = meddle
        self.running: dict[Job, str] = {}
        self.submitted: list[Job] = []
        self._folders: dict[Job, Path] = {}
        self._ended: dict[Job, int] = {}

    def submit(self, job: Job) -> None:
        self.submitted.append(job)
        self.running[job] = ""
        if "--ckpt" in job.argv:
            self._folders[job] = Path(job.argv[job.argv.index("--ckpt") + 1]).parents[1]
            return
        folder = Path(
            flag(job, "trainer.default_root_dir"), "sample-base", f"2026-01-01_00-00-{len(self.submitted):02}-s0"
        )
        (folder / "checkpoints").mkdir(parents=True)
        config = {
            "trainer": {"max_epochs": int(flag(job, "trainer.max_epochs"))},
            "model": {"optimizer": {"init_args": {"lr": float(flag(job, "model.optimizer.lr"))}}},
        }
        record = {
            "recipe": "sample-base", "seed": 0, "status": "running", "source": "the CIFAR-10 sample (6,000 images)",
            "started_at": "2026-01-01T00:00:00+00:00", "config": config, "data": {"train": 256, "val": 200},
            "parameters": 1, "precision": "32-true", "commit": "0123456789ab", "dirty": False,
            "versions": {"torch": "2.14.1"}, "hardware": {"cpu": "A CPU", "threads": 2},
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(record))
        self._folders[job] = folder

    def ended(self, timeout_s: float) -> list[tuple[Job, int | None]]:
        for job in [job for job in self.running if job not in self._ended]:
            folder = self._folders[job]
            config = json.loads((folder / "run.json").read_text())["config"]
            table = folder / "metrics.csv"
            rows = table.read_text().splitlines() if table.exists() else ["epoch,val_loss,val_accuracy"]
            epoch = len(rows)
            with job.log.open("a") as log:
                log.write("error: something is wrong\n")
            code, last = self.meddle(job, epoch), config["trainer"]["max_epochs"]
            if code is None and epoch > last:  # the journal has forgotten that it was whole
                code = 0
            if code is None:
                lr = config["model"]["optimizer"]["init_args"]["lr"]
                table.write_text("\n".join([*rows, f"{epoch},{1 - figure(lr, epoch)},{figure(lr, epoch)}", ""]))
                times = [f"{number},2,1" for number in range(1, epoch + 1)]
                (folder / "timings.csv").write_text("\n".join(["epoch,train_s,val_s", *times, ""]))
                (folder / "checkpoints" / "last.ckpt").touch()
                code = 0 if epoch == last else None
            if code is not None:
                self._ended[job] = code
        ended = [(job, code) for job, code in self._ended.items() if job in self.running]
        for job, _ in ended:
            del self.running[job]
        return ended

    def stop(self, signum: int) -> None:
        for job in self.running:
            self._ended[job] = 143

    def end(self, job: Job) -> None:
        self._ended[job] = 143


def trial_of(job: Job) -> int:
    """The number of a job's trial."""
    return int(re.findall(r"trial-(\d+)", str(job.log))[0])
