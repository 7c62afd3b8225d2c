"""What `search` costs beside plain Optuna, and what pruning saves.

    python -m benchmarks search overhead [--rounds 3] [--trials 5]
    python -m benchmarks search pruning FILE --hours 1 --seeds 0 1 2

`overhead` runs the same trials (the sample, a small net, one epoch) in turn through `search` and through a plain
`study.optimize`, whose objective starts the same `fit` command and waits for it. `pruning` runs the search of a file
with Hyperband and without pruning, for as many hours each, once with each seed: trials an hour, the best figure, and
when the search with pruning first had what the other one ended with. Both write `results/search-<which>.json`.
"""

import argparse
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from benchmarks.measure import conditions
from cifar_lightning.runner.job import Runner
from cifar_lightning.runner.local import LocalRunner
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.record import RESULTS
from cifar_lightning.search.journal import Journal
from cifar_lightning.search.spec import Range, Search, check, read_search
from cifar_lightning.search.trials import command, run_trials
from cifar_lightning.study.plan import Resolved
from cifar_lightning.study.store import find_runs

SMALL = Search(
    "small",
    {"model.optimizer.lr": Range(1e-4, 1e-2, log=True)},
    overrides={"data.source": "sample", "data.batch_size": 256, "model.net.channels": [8, 8, 8]},
    epochs=1,
    val_size=500,
    pruner="none",
)


def main(argv: list[str]) -> int:
    """Measures one of the two and writes its JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks search", description=__doc__.splitlines()[0])
    which = parser.add_subparsers(dest="which", required=True)
    one = which.add_parser("overhead")
    one.add_argument("--rounds", type=int, default=3, help="of each way, in turn")
    one.add_argument("--trials", type=int, default=5, help="of a round")
    other = which.add_parser("pruning")
    other.add_argument("path", type=Path, metavar="FILE", help="a search's file or name")
    other.add_argument("--hours", type=float, default=1.0, help="of each search")
    other.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    other.add_argument("--logs", type=Path, default=Path("lightning_logs"), help="where runs go")
    arguments = parser.parse_args(argv)
    if arguments.which == "overhead":
        found = overhead(arguments.rounds, arguments.trials)
    else:
        search = replace(read_search(arguments.path), hours=arguments.hours, trials=None)
        found = {"searches": pruning(search, arguments.seeds, arguments.logs, lambda: LocalRunner([{}]))}
    path = RESULTS / f"search-{arguments.which}.json"
    settings = {name: str(value) for name, value in vars(arguments).items()}
    write_json(path, conditions("cpu") | {"settings": settings} | found)
    print(f"written  {path}")
    return 0


def overhead(rounds: int, trials: int) -> dict[str, Any]:
    """Seconds per trial of each round, by way."""
    seconds: dict[str, list[float]] = {"search": [], "optuna": []}
    search = replace(SMALL, trials=trials)
    base = check(search)
    for _ in range(rounds):
        for name, way in (("search", _ours), ("optuna", _plain)):
            with TemporaryDirectory() as folder:
                began = time.perf_counter()
                way(search, base, Path(folder))
                seconds[name].append((time.perf_counter() - began) / trials)
                print(f"{name:<7} {seconds[name][-1]:.2f} s a trial", flush=True)
    return {"seconds_per_trial": seconds}


def _ours(search: Search, base: Resolved, folder: Path) -> None:
    run_trials(search, LocalRunner([{}]), Journal(search, folder, base), folder, "sample")


def _plain(search: Search, base: Resolved, folder: Path) -> None:
    def objective(trial: optuna.Trial) -> float:
        params = {"model.optimizer.lr": trial.suggest_float("model.optimizer.lr", 1e-4, 1e-2, log=True)}
        place = folder / str(trial.number)
        with (folder / "log").open("ab") as log:
            subprocess.run(command(search, params, place, "sample", None), stdout=log, stderr=log, check=True)
        return find_runs(folder, None, place.name)[0].content.epochs[-1]["val_accuracy"]

    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    study = optuna.create_study(storage=storage, direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=search.trials)


def pruning(search: Search, seeds: list[int], logs: Path, runner: Callable[[], Runner]) -> list[dict[str, Any]]:
    """For each seed both searches: trials, best figure, hours; and when the pruned one was level, None where never."""
    base, found = check(search), []
    for seed in seeds:
        entries = {}
        for pruner in ("none", "hyperband"):
            one = replace(search, name=f"{search.name}-{pruner}-{seed}", seed=seed, pruner=pruner)
            entries[pruner] = _searched(one, base, logs, runner)
        target, curve = entries["none"]["best"], entries["hyperband"].pop("curve")
        sign = 1 if search.is_better_higher else -1
        level = (hours for hours, value in curve if target is not None and sign * value >= sign * target)
        entries["none"].pop("curve")
        found.append({"seed": seed, **entries, "hours_until_level": next(level, None)})
        print(found[-1], flush=True)
    return found


def _searched(search: Search, base: Resolved, logs: Path, make_runner: Callable[[], Runner]) -> dict[str, Any]:
    folder = logs / search.name
    journal = Journal(search, folder, base)
    source = "sample" if base.config["data"]["source"] == "sample" else "official"
    run_trials(search, make_runner(), journal, folder, source)
    ended = [trial for trial in journal.trials() if trial.state.is_finished()]
    began = min(trial.datetime_start for trial in ended if trial.datetime_start)
    curve = [
        ((trial.datetime_complete - began) / timedelta(hours=1), trial.value)
        for trial in ended
        if trial.state is TrialState.COMPLETE and trial.datetime_complete
    ]
    values = [value for _, value in curve if value is not None]
    best = (max(values) if search.is_better_higher else min(values)) if values else None
    hours = journal.tick() / 3600
    return {"trials": len(ended), "finished": len(curve), "best": best, "hours": hours, "curve": sorted(curve),
            "trials_per_hour": len(ended) / hours}  # fmt: skip
