"""What a search has found: its table, the best settings as a recipe, the study that confirms them, HParams."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial, TrialState
from torch.utils.tensorboard import SummaryWriter

from cifar_lightning.config.parser import Experiment
from cifar_lightning.runs.atomic import write_text
from cifar_lightning.runs.environment import place
from cifar_lightning.runs.settings import differing, settings_of
from cifar_lightning.search.journal import Journal
from cifar_lightning.search.spec import Search, text_of
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.plan import Resolved, resolve
from cifar_lightning.study.spec import System
from cifar_lightning.study.store import find_runs

STATUS = {
    TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
}  # fmt: skip
HPARAMS = "hparams"

Table = dict[str, Any]


def gather(search: Search, journal: Journal, folder: Path, base: Resolved) -> Table:
    """Everything that the page shows, as JSON types; `base` is the base as a trial trains it."""
    flop = dict[tuple[object, ...], Resolved]()
    trials = [_trial(search, trial, folder, flop) for trial in journal.trials()]
    finished = [trial for trial in trials if trial["status"] == "finished"]
    order = sorted(finished, key=lambda trial: trial["value"], reverse=search.is_better_higher)
    return {
        "name": search.name,
        "objective": search.objective,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "epochs": base.max_epochs,
        "val_images": max((trial["val_images"] for trial in trials), default=0),
        "is_better_higher": search.is_better_higher,
        "space": [
            {"flag": flag, "values": _values(search, flag), "choices": list(getattr(values, "choices", ()))}
            for flag, values in search.distributions.items()
        ],
        "is_log": {flag: getattr(values, "log", False) for flag, values in search.space.items()},
        "trials": trials,
        "best": order[0] if order else None,
        "base": next((trial for trial in finished if trial["is_base"]), None),
        "importances": journal.importances(),
        "flop": sum(trial["flop"] or 0 for trial in trials),
        "train_s": sum(trial["train_s"] for trial in trials),
        "elapsed_s": journal.tick(),
        "sources": sorted({trial["source"] for trial in trials if trial["source"]}),
        "definition": journal.study.user_attrs["definition"],  # the base's settings, the space, objective and seed
        "machines": _machines(trials),
    }


def _machines(trials: list[Table]) -> list[Table]:
    """Where and with what the trials have run, each combination once."""
    found: list[Table] = []
    for trial in trials:
        for entry in trial.pop("machines"):
            if entry not in found:
                found.append(entry)
    return found


def _trial(search: Search, trial: FrozenTrial, folder: Path, known: dict[tuple[object, ...], Resolved]) -> Table:
    name = trial.user_attrs.get("folder", "")
    runs = find_runs(folder, None, name) if name else []
    flop, train_s, source, val_images, machines = None, 0.0, "", 0, []
    if runs:
        content = runs[-1].content
        machines = [
            {"place": f"{place(session.hardware)}, {content.run.precision}", "commit": session.commit,
             "dirty": session.dirty, "package_digest": session.package_digest, "versions": session.versions,
             "hardware": session.hardware}
            for session in content.run.sessions
        ]  # fmt: skip
        source, val_images = content.run.source, content.run.data["val"]
        train_s = sum(row["train_s"] + row["val_s"] for row in content.timings)
        # Operations per image: a number such as a rate of dropout changes none, and to build a net takes its time.
        shape = [value for flag, value in trial.params.items() if flag.startswith(("model.net", "model.optimizer"))]
        key = (content.run.parameters, *(value for value in shape if not isinstance(value, float)))
        if key not in known:
            known[key] = resolve(search.trial(name, trial.params))
        flop = known[key].epoch_flop(content.run.data["train"]) * len(content.epochs)
    return {
        "number": trial.number,
        "folder": name,
        "status": STATUS[trial.state],
        "is_base": trial.user_attrs.get("is_base", False),
        "reason": trial.user_attrs.get("reason", ""),
        "value": trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        "params": trial.params,
        "curve": sorted(trial.intermediate_values.items()),
        "train_s": train_s,
        "flop": flop,
        "source": source,
        "val_images": val_images,
        "machines": machines,
    }


def _values(search: Search, flag: str) -> str:
    values = search.distributions[flag]
    if hasattr(values, "choices"):
        return ", ".join(map(str, values.choices))
    return f"{values.low:g} to {values.high:g}{', logarithmic' if values.log else ''}"  # type: ignore[attr-defined]


def recipe(system: System) -> dict[str, Any]:
    """The settings in which a system differs from a bare `fit`, as a file for `--config` holds them."""
    experiment = Experiment("fit", system.flags())
    mine, plain = settings_of(experiment.resolved()), settings_of(Experiment("fit", []).resolved())
    if not experiment.has_precision:
        del mine["trainer.precision"]
    names = {name for name in differing(mine, plain) if name in mine}
    for name in mine:  # an argument goes with its class, and another class with all of its arguments
        group, is_argument, _ = name.partition(".init_args.")
        class_name = f"{group}.class_path"
        if is_argument and mine[class_name] != plain.get(class_name):
            names.add(name)
        if is_argument and name in names:
            names.add(class_name)
    content: dict[str, Any] = {}
    for name in sorted(names):
        *groups, last = name.split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = mine[name]
    return content


def write_result(search: Search, table: Table, folder: Path) -> Path:
    """Writes best.yaml, base.yaml, the study of both, and HParams; returns the study's path.

    Raises OutputError: a file cannot be written.
    """
    best, title = table["best"], METRICS[search.objective].title
    figure = f"{title} {METRICS[search.objective].show(best['value'])}"
    conditions = f"{table['epochs']} epochs, {table['val_images']:,} validation images, seed {search.seed}"
    systems = {"base": search.system("base", {}), "best": search.system("best", best["params"])}
    heads = {
        "base": f"# What the search {search.name} began with.\n",
        "best": f"# Found by the search {search.name}: {figure} in trial {best['number']} of {len(table['trials'])}\n"
        f"# ({conditions}). The best of many is flattered:\n"
        "# the study in confirm.yaml compares it with the base on the test set.\n"
        f"# Command: python -m cifar_lightning fit --config {folder / 'best.yaml'}\n",
    }
    for name, system in systems.items():
        write_text(folder / f"{name}.yaml", heads[name] + yaml.safe_dump(recipe(system), sort_keys=False))
    # Seeds that no trial has had.
    seeds = [seed for seed in range(search.confirm_seeds + 1) if seed != search.seed][: search.confirm_seeds]
    study = {
        "name": f"{search.name}-confirm",
        "title": f"What the search {search.name} has found",
        "introduction": f"The base and the settings of trial {best['number']} ({text_of(best['params'])}), which had "
        f"{figure} in the search ({conditions}). Here both train whole, with seeds that the search has not used.",
        "reference": "base",
        "seeds": seeds,
        "systems": {name: {"config": f"{name}.yaml"} for name in systems},
        "claims": [
            {
                "says": "The settings that the search has found are more accurate than the base.",
                "checks": [{"compare": ["best", "base"], "metric": "test_accuracy", "expect": "higher"}],
            }
        ],
    }
    write_text(folder / "confirm.yaml", yaml.safe_dump(study, sort_keys=False, width=110))
    _write_hparams(table, folder / HPARAMS)
    return folder / "confirm.yaml"


def _write_hparams(table: Mapping[str, Any], folder: Path) -> None:
    """A point of TensorBoard's HParams for each trial with a figure."""
    shutil.rmtree(folder, ignore_errors=True)  # TensorBoard would show the old points beside the new ones
    for trial in table["trials"]:
        if trial["value"] is not None:
            with SummaryWriter(str(folder / f"trial-{trial['number']:04}")) as writer:
                params = trial["params"] | {"status": trial["status"], "epochs": len(trial["curve"])}
                writer.add_hparams(params, {f"result/{table['objective']}": trial["value"]}, run_name=".")
