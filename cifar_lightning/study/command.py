"""`study`: plans, trains what has not been trained, compares, and writes the page."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cifar_lightning.config.flags import LOGS
from cifar_lightning.errors import ConfigError, UserError, VerbParser
from cifar_lightning.runs import environment
from cifar_lightning.study.aggregate import gather
from cifar_lightning.study.charts import draw, sample_images
from cifar_lightning.study.page import publish, write_study
from cifar_lightning.study.plan import DONE, FAILED, Task, duration, estimate_s, make_plan, resolve
from cifar_lightning.study.runner import execute, job_environments, locked
from cifar_lightning.study.spec import Study, read_study
from cifar_lightning.study.store import find_runs


def main(argv: list[str]) -> int:
    """Runs a study and writes its page.

    Raises:
        ConfigError: a flag, the study or one of its systems is wrong.
        OutputError: a file cannot be read or written, or the study is being run already.
        UserError: Ctrl-C or SIGTERM; or runs failed, now or before, and the page is written all the same.
    """
    arguments = _parser().parse(argv)
    study = read_study(arguments.path, arguments.seeds)
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

    environments = job_environments(arguments.jobs, max(system.devices for system in resolved.values()))
    tasks = plan(arguments.retry_failed)
    _show_plan(study, tasks)
    if arguments.dry_run:
        return 0
    failed_now = 0
    with locked(logs) as lock:
        if not arguments.gather:
            tasks = plan(arguments.retry_failed)  # once more: another study may have worked here until now
            again = shlex.join(["python", "-m", "cifar_lightning", "study", *argv])
            failed_now = execute(tasks, environments, logs, lock, again)
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
            f"{logs}/<system>/s<seed>.log; --retry-failed runs them once more"
        )
    return 0


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
