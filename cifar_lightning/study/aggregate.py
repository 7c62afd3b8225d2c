"""The table of a study: everything that its page shows, computed from the runs' files and from nothing else.

No clock and no order of the file system comes in, so that asking again gives the same bytes.
"""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cifar_lightning.runs.environment import place
from cifar_lightning.runs.settings import flat, without_folders
from cifar_lightning.study.metrics import CURVES, METRICS
from cifar_lightning.study.plan import DONE, FAILED, Resolved, Task
from cifar_lightning.study.spec import Study, System
from cifar_lightning.study.stats import LEVEL, judge, summarise
from cifar_lightning.study.store import StoredRun

COMPARED = ("test_accuracy", "test_loss")  # of the comparisons that no claim names
Entry = dict[str, Any]


def gather(study: Study, resolved: dict[str, Resolved], tasks: Sequence[Task]) -> Entry:
    """The table as JSON types, from the plan as it stands after the runs; `resolved` is by system."""
    finished = {
        system.name: [task.run for task in tasks if task.system == system and task.action == DONE and task.run]
        for system in study.systems
    }
    values = {name: {metric: _values(runs, metric) for metric in METRICS} for name, runs in finished.items()}
    rows = {name: [run.content.epochs for run in runs] for name, runs in finished.items()}
    machines = {name: {machine for run in runs for machine in _machines(run)} for name, runs in finished.items()}
    comparisons, claims = judge(study.claims, study.comparisons, COMPARED, values, rows, machines)
    records = [run.record for runs in finished.values() for run in runs]
    shown, layers = next(iter(finished[study.reference]), None), resolved[study.reference].layers
    table = {
        "name": study.name,
        "title": study.title,
        "introduction": study.introduction,
        "arguments": study.arguments,
        "reference": study.reference,
        "sources": sorted({record.source for record in records}),
        "level": LEVEL,
        "systems": [
            _system(system, resolved[system.name], finished[system.name], tasks, sorted(machines[system.name]))
            for system in study.systems
        ],
        "comparisons": comparisons,
        "claims": claims,
        "layers": {"rows": [asdict(row) for row in layers.rows], "parameters": layers.parameters},
        "confusion": _confusion(finished[study.reference]),
        "shown_run": {"name": shown.name, "seed": shown.seed} if shown else None,
        "runs": [_run(task) for task in tasks],
        "newest": max((record.finished_at for record in records if record.finished_at), default=None),
    }
    return without_folders(table)


def _values(runs: Sequence[StoredRun], metric: str) -> list[float]:
    read = [METRICS[metric].read(run.content) for run in runs]
    return [float(value) for value in read if value is not None]


def _system(
    system: System, resolved: Resolved, runs: Sequence[StoredRun], tasks: Sequence[Task], machines: Sequence[str]
) -> Entry:
    mine = [task for task in tasks if task.system == system]
    trained_on, tested_on = None, None  # images, the same in every run
    if runs:
        trained_on, tested_on = runs[0].record.data["train"], runs[0].record.metrics["test"]["images"]
    settings = flat(resolved.config)
    curves = {name: points for name in CURVES if (points := _curve(runs, name))}
    # Where the mean curve is lowest: a validation loss that rises after that epoch tells of over-fitting.
    lowest = min(curves.get("val_loss", []), key=lambda point: point["mean"], default=None)
    return {
        "name": system.name,
        "title": system.title,
        "says": system.says,
        "command": shlex.join(["python", "-m", "cifar_lightning", "fit", *system.flags()]),
        "batch_size": settings["data.batch_size"],
        "max_epochs": resolved.max_epochs,
        "learning_rate": settings.get("model.optimizer.init_args.lr"),
        "trained_on": trained_on,
        "val_size": settings["data.val_size"],
        "parameters": resolved.layers.parameters,
        "train_flop": trained_on and resolved.epoch_flop(trained_on) * resolved.max_epochs,
        "test_flop": tested_on and resolved.evaluation_flop_per_image * tested_on,
        "machine": " / ".join(machines),
        "seeds": [task.seed for task in mine],
        "n": len(runs),
        "failed": sum(task.action == FAILED for task in mine),
        "missing": sum(task.is_due for task in mine),
        "metrics": {
            name: {**asdict(summarise(values)), "values": values} for name in METRICS if (values := _values(runs, name))
        },
        "curves": curves,
        "lowest_val_loss": {"epoch": lowest["epoch"], "mean": lowest["mean"]} if lowest else None,
    }


def _curve(runs: Sequence[StoredRun], name: str) -> list[Entry]:
    """Per epoch the mean over the runs that have it, with the least and the greatest."""
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for row in run.content.epochs:
            if name in row:
                by_epoch.setdefault(int(row["epoch"]), []).append(row[name])
    return [
        {"epoch": epoch, "n": len(values), "mean": sum(values) / len(values), "least": min(values), "most": max(values)}
        for epoch, values in sorted(by_epoch.items())
    ]


def _machines(run: StoredRun) -> list[str]:
    """Where a run computed, in the order of its sessions."""
    record = run.record
    return list(dict.fromkeys(f"{place(session.hardware)}, {record.precision}" for session in record.sessions))


def _confusion(runs: Sequence[StoredRun]) -> Entry | None:
    """The counts of all runs together: rows are true classes."""
    if not runs:
        return None
    tests = [run.record.metrics["test"] for run in runs]
    counts = np.sum([test["confusion_matrix"] for test in tests], axis=0)
    return {"classes": list(tests[0]["per_class_accuracy"]), "counts": counts.tolist(), "runs": len(runs)}


def _run(task: Task) -> Entry:
    status = {DONE: "finished", FAILED: "failed"}.get(task.action, "unfinished" if task.run else "not run")
    entry: Entry = {"system": task.system.name, "seed": task.seed, "status": status}
    if task.run is not None:
        record = task.run.record
        entry |= {
            "name": task.run.name,
            "epochs": task.run.epochs,
            "error": record.error if task.action == FAILED else None,
            "package_digests": record.digests,
            "commit": record.commit,
            "dirty": any(session.dirty for session in record.sessions),
            "machine": " / ".join(_machines(task.run)),
            "started_at": record.started_at,
            "resumed": len(record.resumed),
            "torch": record.versions["torch"],
        }
        if task.action == DONE:
            entry["metrics"] = {name: metric.read(task.run.content) for name, metric in METRICS.items()}
    return entry
