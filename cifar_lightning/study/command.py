"""`study`: plans, runs what has not run, gathers, and writes the page."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from cifar_lightning.config.parser import LOGS
from cifar_lightning.errors import ConfigError, UserError
from cifar_lightning.runs import environment
from cifar_lightning.study.aggregate import gather
from cifar_lightning.study.charts import draw, draw_photographs
from cifar_lightning.study.page import publish, write_study
from cifar_lightning.study.plan import DONE, FAILED, Resolved, Task, make_plan, resolve
from cifar_lightning.study.runner import Board, duration, estimate_s, execute, locked, make_slots
from cifar_lightning.study.spec import Study, read_study
from cifar_lightning.study.store import find_runs
from cifar_lightning.study.tensorboard import write_means


class RunsFailed(UserError):  # noqa: N818 -- the study itself is whole
    """Some of the study's runs failed; the page shows which."""


def main(argv: list[str]) -> int:
    """Runs a study and writes its page.

    Raises:
        ConfigError: a flag, the study or one of its systems is wrong.
        OutputError: a file cannot be read or written, or the study is being run already.
        StudyStopped: Ctrl-C or SIGTERM.
        RunsFailed: runs failed, now or before; the page is written all the same.
    """
    arguments = _parser().parse_args(argv)
    study = read_study(arguments.path, arguments.seeds)
    target = _publish_folder(arguments.publish, study)
    desk = _Desk(study, arguments.logs / study.name, target, arguments.accept_source, arguments.retry_failed)
    slots = make_slots(arguments.jobs, max(resolved.devices for resolved in desk.resolved.values()))
    tasks = desk.plan()
    _show_plan(study, tasks)
    if arguments.dry_run:
        return 0
    new_failures, is_run = 0, not arguments.gather
    with locked(desk.logs) as lock:
        if is_run:
            tasks = desk.plan()  # once more: another study may have worked here until now
            again = shlex.join(["python", "-m", "cifar_lightning", "study", *argv])
            with Board(tasks, desk.logs) as board:
                new_failures = execute(tasks, slots, desk.logs, lock, board, again)
            desk.retry_failed = False  # what has failed again is a failure
            tasks = desk.plan()
        desk.write(tasks)
    # When everything has had its turn, what is not done has failed, also where a killed run could go on.
    failed = sum(task.action == FAILED or (is_run and task.is_due) for task in tasks)
    if failed or new_failures:
        raise RunsFailed(
            f"{max(failed, new_failures)} of {len(tasks)} runs failed; their logs are "
            f"{desk.logs}/<system>/s<seed>.log; --retry-failed runs them once more"
        )
    return 0


class _Desk:
    """A study with what its systems are on this machine and where its files lie."""

    def __init__(self, study: Study, logs: Path, target: Path | None, accept_source: bool, retry_failed: bool) -> None:
        self.study = study
        self.logs = logs
        self.target = target
        self.accept_source = accept_source
        self.retry_failed = retry_failed
        self.resolved: dict[str, Resolved] = {system.name: resolve(system) for system in study.systems}
        self.digest = environment.package_digest()

    @property
    def published(self) -> Path | None:
        """Where published runs are read."""
        return self.target or self.study.published

    def plan(self) -> list[Task]:
        """From the files as they are now."""
        found = {system.name: find_runs(self.logs, self.published, system.name) for system in self.study.systems}
        return make_plan(self.study, self.resolved, found, self.digest, self.accept_source, self.retry_failed)

    def write(self, tasks: Sequence[Task]) -> None:
        """Gathers and writes everything."""
        table = gather(self.study, self.resolved, tasks)
        reference = self.study.reference
        done = [task.run for task in tasks if task.action == DONE and task.system.name == reference]
        page = self.published / self.study.name if self.published else None
        photographs = draw_photographs(self.resolved[reference].config, done[0] if done else None, page)
        figures = draw(table) | photographs
        write_study(table, figures, self.logs)
        write_means(table, self.logs)
        print(f"written  {self.logs / 'report.html'}")
        if self.target is not None:
            publish(table, figures, tasks, self.target)
            print(f"written  {self.target / self.study.name / 'report.md'}, its figures and the runs")
        print(f"curves   tensorboard --logdir {self.logs}   (filter: means)")


def _show_plan(study: Study, tasks: Sequence[Task]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("system", "seed", "epochs", "plan", "why"):
        table.add_column(column, justify="right" if column in ("seed", "epochs") else "left", overflow="fold")
    for task in tasks:
        table.add_row(task.system.name, str(task.seed), str(task.resolved.max_epochs), task.action, task.reason)
    console.print(f"study   {study.name}: {len(study.systems)} systems, {len(tasks)} runs")
    console.print(table)
    due = sum(task.is_due for task in tasks)
    finished = [(task, task.run) for task in tasks if task.action == DONE and task.run]
    seconds = estimate_s(tasks, finished)
    if not due:
        console.print("nothing is left to run")
    elif seconds is None:
        console.print(f"{due} to run; how long it takes is not known, since no run has finished")
    else:
        console.print(f"{due} to run, about {duration(seconds)} by the pace of {len(finished)} finished run(s)")
    console.file.flush()


def _publish_folder(publish: str | None, study: Study) -> Path | None:
    if publish == "":
        if study.published is None:
            raise ConfigError("--publish needs a folder, since the study names none as published")
        return study.published
    return Path(publish) if publish is not None else None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m cifar_lightning study",
        allow_abbrev=False,
        description="Train every system of a study with each of its seeds, as far as that has not been done, then "
        "compare them and write report.html. It can be stopped and started again at any time.",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a study file, or a folder of configs")
    parser.add_argument("--dry-run", action="store_true", help="only show the plan")
    parser.add_argument(
        "--gather", action="store_true", help="run nothing; write the page from the runs that are there"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="runs side by side; by default one for each GPU, or one")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="S", help="for a folder of configs; by default 0")
    parser.add_argument(
        "--publish", nargs="?", const="", metavar="FOLDER",
        help="also write report.md with its figures into FOLDER/<study>/ and a small JSON per run into FOLDER/runs/, "
        "and count the runs that are there already; by default the study's `published`",
    )  # fmt: skip
    parser.add_argument("--accept-source", action="store_true", help="count runs of another version of this package")
    parser.add_argument("--retry-failed", action="store_true", help="run once more what has failed")
    parser.add_argument(
        "--logs", type=Path, default=Path(LOGS), metavar="DIR", help=f"where runs go; by default {LOGS}"
    )
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"study: {message}; see python -m cifar_lightning study --help")
