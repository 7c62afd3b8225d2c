"""The folder and the record of a run: made or taken up, and taken back where the run cannot begin."""

import contextlib
import shlex
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError, OutputError
from cifar_lightning.process import is_rank_zero, scratch_folder
from cifar_lightning.runs import environment, run_dir
from cifar_lightning.runs.atomic import sweep, write_bytes
from cifar_lightning.runs.record import RECORD, RunRecord, Session, read_record
from cifar_lightning.runs.run_dir import in_use

CONFIG = "config.yaml"  # of the run's folder
Files = dict[Path, bytes | None]  # None: of a file whose content no new session changes before its first step


def open_run(experiment: Experiment, held: contextlib.ExitStack) -> tuple[Path, RunRecord]:
    """The run's folder and record: the checkpoint's own where its last checkpoint goes on, else new ones.

    Nobody else can train in the folder until `held` is closed.
    """
    session: dict[str, Any] = {
        "started_at": timestamp(),
        "command": shlex.join(["python", "-m", "cifar_lightning", "fit", *experiment.arguments]),
        **environment.commit(),
        "package_digest": environment.package_digest(),
        "versions": environment.versions(),
        "hardware": environment.hardware(experiment.accelerator),
    }
    loaded = experiment.loaded
    if loaded is not None and loaded.path.name == "last.ckpt" and is_rank_zero():
        folder = run_dir.run_of(loaded.path)
        if folder is not None:
            held.enter_context(in_use(folder))
            if loaded.changed_on_disk:
                raise OutputError(f"{folder} has gone on meanwhile, with another fit; give the same command again")
            for place in (folder, folder / run_dir.CHECKPOINTS):
                sweep(place)
            record = read_record(folder)
            before, now = record.config["trainer"], experiment.resolved()
            is_scored = "test" in record.metrics or not experiment.config.final_test
            limits = [name for name in ("max_epochs", "max_steps", "max_time") if before[name]]
            has_more = any(before[name] != now["trainer"][name] for name in limits)
            if record.status == "finished" and is_scored and not has_more:
                raise ConfigError(
                    f"{folder} has finished its {loaded.epochs} epochs; give a higher --trainer.max_epochs to go on"
                )
            record.resumed.append(Session(**session))
            record.status, record.seed, record.config = "running", experiment.seed, now
            record.precision = experiment.config.trainer.precision
            return folder, record
    data = experiment.datamodule
    recipe = f"sample-{experiment.recipe.removeprefix('sample-')}" if data.is_sample else experiment.recipe
    if is_rank_zero():
        folder = run_dir.create(experiment.logs, recipe, experiment.seed, datetime.now())
        try:
            held.enter_context(in_use(folder))
        except OutputError:
            shutil.rmtree(folder)  # nothing was written into it
            raise
    else:
        folder = scratch_folder()
    return folder, RunRecord(
        recipe=recipe,
        seed=experiment.seed,
        status="running",
        source=data.source,
        sample=("fallback" if data.may_fall_back else "asked for") if data.is_sample else None,
        precision=experiment.config.trainer.precision,
        started_from=str(loaded.path) if loaded is not None else None,
        config=experiment.resolved(),
        **session,
    )


def snapshot(folder: Path) -> Files:
    """What is in the folder of a run that goes on, so that a refusal can leave it as it was."""
    changing = (RECORD, CONFIG)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() if path.name in changing else None for path in files}


def withdraw(folder: Path, earlier: Files | None) -> None:
    """Takes back what was written when wrong settings keep a run from beginning: of a run that goes on everything since
    `earlier`, of a new one the folder, if it has saved nothing."""
    if earlier is None:
        if not any((folder / run_dir.CHECKPOINTS).glob("*.ckpt")):
            shutil.rmtree(folder)
        return
    for path in {path for path in folder.rglob("*") if path.is_file()} - earlier.keys():
        path.unlink()
    for path, content in earlier.items():
        if content is not None:
            write_bytes(path, content)


def timestamp() -> str:
    """This second, with the time zone, as the record has it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
