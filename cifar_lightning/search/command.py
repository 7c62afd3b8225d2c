"""`search`: tries settings, prunes the poor ones, and writes what it has found."""

import shlex
from pathlib import Path

from cifar_lightning.config.flags import LOGS
from cifar_lightning.errors import ConfigError, UserError, VerbParser
from cifar_lightning.runner.job import Runner
from cifar_lightning.runner.options import add_options, local_environments, runner_of
from cifar_lightning.runs.atomic import write_json, write_text
from cifar_lightning.search.charts import draw
from cifar_lightning.search.journal import Journal
from cifar_lightning.search.result import HPARAMS, Table, gather, write_result
from cifar_lightning.search.spec import Search, check, read_search, text_of
from cifar_lightning.search.trials import run_trials
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.page import page_environment
from cifar_lightning.study.plan import Resolved, duration

PAGE = "search.html.j2"


def main(argv: list[str]) -> int:
    """Runs a search and writes its page.

    Raises:
        ConfigError: a flag, the search or one of its values is wrong; or there is no such Ray cluster.
        OutputError: a file cannot be read or written, or a node does not see the folder.
        UserError: Ctrl-C or SIGTERM; or no trial has finished.
    """
    arguments = _parser().parse(argv)
    search = read_search(arguments.path)
    try:
        base = check(search)
    except ConfigError as error:
        raise ConfigError(f"search {arguments.path}: {error}") from error
    local_environments(arguments, base.devices)
    if arguments.dry_run:
        print(f"search  {search.name}: {len(search.space)} flags, every value is one that fit takes")
        return 0
    with runner_of(arguments, base.devices, arguments.logs / search.name) as runner:
        again = shlex.join(["python", "-m", "cifar_lightning", "search", *argv])
        run_search(search, base, runner, arguments.logs, again)
    return 0


def run_search(
    search: Search,
    base: Resolved,
    runner: Runner,
    logs: Path = Path(LOGS),
    again: str = "the same call",
) -> Table:
    """Runs what is missing of a search, and writes its result and page into `<logs>/<name>/`.

    Args:
        search: what is looked for.
        base: what `check` says of it.
        runner: what trains.
        logs: where runs go.
        again: what goes on, to be told where it is stopped.

    Returns the table of `gather`: the `best` trial has a `value` and `params`.

    Raises:
        ConfigError: the folder holds another search's trials.
        OutputError: a file cannot be read or written.
        UserError: Ctrl-C or SIGTERM; a fault that every trial would meet; or no trial has finished.
    """
    folder = logs / search.name
    journal = Journal(search, folder, base)
    source = "sample" if base.config["data"]["source"] == "sample" else "official"  # never fall back on the sample
    run_trials(search, runner, journal, folder, source, again)
    table = gather(search, journal, folder, base)
    confirm = write_result(search, table, folder) if table["best"] else None
    pages = page_environment("cifar_lightning.search", PAGE)
    pages.filters["value"] = lambda value: f"{value:.4g}" if isinstance(value, float) else value
    page = pages.get_template(PAGE).render(**table, figures=draw(table), metric=METRICS[search.objective])
    write_text(folder / "report.html", page)
    write_json(folder / "search.json", table)
    print(f"written  {folder / 'report.html'}, from {duration(table['elapsed_s'])}")
    if confirm is None:
        raise UserError(f"no trial has finished; their logs are {folder}/trial-<number>.log")
    best, show = table["best"], METRICS[search.objective].show
    print(f"best     {show(best['value'])} in trial {best['number']}: {text_of(best['params'])}")
    print(f"curves   tensorboard --logdir {folder / HPARAMS}")
    print(f"recipe   python -m cifar_lightning fit --config {folder / 'best.yaml'}")
    print(f"confirm  python -m cifar_lightning study {confirm}")
    return table


def _parser() -> VerbParser:
    parser = VerbParser(
        "search",
        "Look for better settings of a recipe on the validation split, then write the best as a recipe, a study that "
        "confirms it on the test set, and report.html. It can be stopped and started again at any time.",
    )
    parser.add_argument("path", type=Path, metavar="FILE", help="a search's file, or the name of one of the package's")
    parser.add_argument("--dry-run", action="store_true", help="only check the file and every value in it")
    add_options(parser)
    return parser
