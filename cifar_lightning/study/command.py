"""`study`: plans, trains what has not been trained, compares, and writes the page."""

import functools
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from cifar_lightning.errors import ConfigError, UserError, VerbParser
from cifar_lightning.runner.job import locked
from cifar_lightning.runner.options import add_options, local_environments, runner_of
from cifar_lightning.runs import environment
from cifar_lightning.study.aggregate import gather
from cifar_lightning.study.charts import draw, sample_images
from cifar_lightning.study.page import publish, write_study
from cifar_lightning.study.plan import DONE, FAILED, Task, duration, estimate_s, make_plan, resolve
from cifar_lightning.study.runner import execute, job_of
from cifar_lightning.study.spec import Study, read_study
from cifar_lightning.study.store import find_runs


def main(argv: list[str]) -> int:
    """Runs a study and writes its page.

    Raises:
        ConfigError: a flag, the study or one of its systems is wrong; or there is no such Ray cluster.
        OutputError: a file cannot be read or written, a node does not see the folder, or the study is being run
            already.
        UserError: Ctrl-C or SIGTERM; or runs failed, now or before, and the page is written all the same.
    """
    arguments = _parser().parse(argv)
    study = read_study(arguments.path, arguments.seeds)
    if arguments.index is not None:
        study = _only(study, arguments.index)
        arguments.jobs = 1
    logs = arguments.logs / study.name
    published = Path(arguments.publish) if arguments.publish else study.published  # where published runs are read
    if arguments.publish is not None and published is None:
        raise ConfigError("--publish needs a folder, since the study names none as published")
    resolved = {system.name: resolve(system) for system in study.systems}
    digest = environment.package_digest()

    def plan(retry_failed: bool) -> list[Task]:
        """From the files as they are now."""
        found = {system.name: find_runs(logs, published, system.name) for system in study.systems}
        return make_plan(study, resolved, found, digest, arguments.accept_source, retry_failed)

    devices = max(system.devices for system in resolved.values())
    environments = local_environments(arguments, devices)
    planned = functools.partial(plan, arguments.retry_failed)
    tasks = planned()
    _show_plan(study, tasks, arguments.index or 0)
    if arguments.dry_run:
        return 0
    if arguments.index is not None:
        return _run_one(planned, logs, environments[0])
    failed_now = 0
    with locked(logs / ".lock", shared=arguments.gather) as lock:
        if not arguments.gather:
            again = shlex.join(["python", "-m", "cifar_lightning", "study", *argv])
            with runner_of(arguments, devices, logs, [lock.fileno()]) as runner:
                # The plan once more: another study may have worked here until now.
                failed_now = execute(planned(), runner, logs, planned, again)
        tasks = plan(retry_failed=False)  # what has failed again is a failure
        table = gather(study, resolved, tasks)
        done = [task.run for task in tasks if task.action == DONE and task.system.name == study.reference]
        page = published / study.name if published else None
        images = sample_images(resolved[study.reference].config, done[0] if done else None, page)
        figures = draw(table) | images
        write_study(table, figures, logs)
        print(f"written  {logs / 'report.html'}")
        if published and arguments.publish is not None:
            publish(table, figures, tasks, published)
            print(f"written  {published / study.name / 'report.md'}, its figures and the runs")
        print(f"curves   tensorboard --logdir {logs}")
    # When everything has had its turn, what is not done has failed, also where a killed run could go on.
    failed = sum(task.action == FAILED or (task.is_due and not arguments.gather) for task in tasks)
    if failed or failed_now:
        raise UserError(
            f"{max(failed, failed_now)} of {len(tasks)} runs failed; their logs are "
            f"{logs}/<system>/s<seed>.log, with --index where the job printed; --retry-failed runs them once more"
        )
    return 0


def _only(study: Study, index: int) -> Study:
    """The study of one run of the plan."""
    runs = [(system, seed) for system in study.systems for seed in system.seeds]
    if not 0 <= index < len(runs):
        raise ConfigError(f"--index {index}: the plan has {len(runs)} runs, from 0 to {len(runs) - 1}")
    system, seed = runs[index]
    return replace(study, systems=(replace(system, seeds=(seed,)),))


def _run_one(plan: Callable[[], list[Task]], logs: Path, environment: Mapping[str, str]) -> int:
    """Becomes the process of the plan's only run; returns 0 where it is done. It holds its own lock, and others may run
    in the study's folder, but no whole study.

    Raises:
        OutputError: the run, or a whole study, is under way.
        UserError: it has failed before.
    """
    lock = job_of(plan()[0], logs).lock
    with locked(logs / ".lock", shared=True) as of_study, locked(lock) as of_run:
        (task,) = plan()  # once more, as it is now that nobody else runs it
        if task.action == FAILED:
            raise UserError(f"{task.system.name} s{task.seed} has failed: {task.reason}")
        if task.is_due:
            for file in (of_study, of_run):
                os.set_inheritable(file.fileno(), True)
            sys.stdout.flush()
            argv = job_of(task, logs).argv
            os.execve(argv[0], argv, {**os.environ, **environment})
    return 0


def _show_plan(study: Study, tasks: Sequence[Task], first: int) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("index", "system", "seed", "epochs", "plan", "why"):
        justify: Literal["left", "right"] = "right" if column in ("index", "seed", "epochs") else "left"
        table.add_column(column, justify=justify, overflow="fold")
    for index, task in enumerate(tasks, start=first):
        epochs = str(task.resolved.max_epochs)
        table.add_row(str(index), task.system.name, str(task.seed), epochs, task.action, task.reason)
    console.print(f"study   {study.name}: {len(study.systems)} systems, {len(tasks)} runs")
    console.print(table)
    due = sum(task.is_due for task in tasks)
    seconds = estimate_s(tasks)
    if not due:
        console.print("nothing is left to run")
    elif seconds is None:
        console.print(f"{due} to run; how long it takes is not known, since no run has finished")
    else:
        finished = sum(task.action == DONE for task in tasks)
        console.print(f"{due} to run, about {duration(seconds)} by the pace of {finished} finished run(s)")
    console.file.flush()


def _parser() -> VerbParser:
    parser = VerbParser(
        "study",
        "Train every system of a study with each of its seeds, as far as that has not been done, then compare them and "
        "write report.html. It can be stopped and started again at any time.",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a study's name, its file, or a folder of configs")
    parser.add_argument("--dry-run", action="store_true", help="only show the plan")
    way = add_options(parser)
    way.add_argument("--gather", action="store_true", help="run nothing; write the page from the runs that are there")
    way.add_argument(
        "--index", type=int, metavar="N", help="run the N-th run of the plan, from 0, and nothing else: for job arrays"
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="S", help="for a folder of configs; by default 0")
    parser.add_argument(
        "--publish", nargs="?", const="", metavar="FOLDER",
        help="also write report.md with its figures into FOLDER/<study>/ and a small JSON per run into FOLDER/runs/, "
        "and count the runs that are there already; by default the study's `published`",
    )  # fmt: skip
    parser.add_argument("--accept-source", action="store_true", help="count runs of another version of this package")
    parser.add_argument("--retry-failed", action="store_true", help="run once more what has failed")
    return parser
