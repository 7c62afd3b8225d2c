"""`record`: a finished run's figures into `results/`."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cifar_lightning.data.sample import SAMPLE_TEST_IMAGES
from cifar_lightning.errors import ConfigError, OutputError, VerbParser
from cifar_lightning.runs.atomic import write_bytes
from cifar_lightning.runs.record import RESULTS, RUNS, RunFiles, RunRecord, read_files, read_run, write_run
from cifar_lightning.runs.run_dir import CHECKPOINTS
from cifar_lightning.runs.settings import NEUTRAL_FLAGS, differing, settings_of

TEST_IMAGES = 10_000

CONFIG_FLAGS = ("-c", "--config")


def main(argv: list[str]) -> int:
    """Copies the figures of the runs named in `argv` into `results/`.

    Raises:
        ConfigError: a flag is wrong, or a run is no result: unfinished, not tested, or on the sample unasked.
        OutputError: a run cannot be read, or a file cannot be written.
    """
    parser = VerbParser("record", "Copy finished runs' figures into results/.")
    parser.add_argument("run", nargs="+", type=Path, help="folder of a finished run")
    for folder in parser.parse(argv).run:
        print(f"recorded {record_run(folder, RESULTS)}; in a checkout, python -m benchmarks tables shows it")
    return 0


def record_run(folder: Path, results: Path) -> Path:
    """Writes one run's JSON, whose path it returns, and its curves.png; recording it again replaces them."""
    files = read_files(folder)
    run, test = files.run, folder / "test.json"
    if run.sample == "fallback":
        raise ConfigError(f"{folder} trained on the sample since CIFAR-10 was not there: that is no result on CIFAR-10")
    if run.status != "finished" or "test" not in run.metrics:
        raise ConfigError(
            f"{folder} is {run.status} and has no final test score; finish it with: python -m cifar_lightning "
            f"fit --ckpt {folder / CHECKPOINTS / 'last.ckpt'} --final_test true"
        )
    target = results / RUNS / run.recipe / f"{folder.resolve().name}.json"
    _check_identity(folder, run, target, read_results(results))
    try:
        curves = (folder / "curves.png").read_bytes()
        test_verb = json.loads(test.read_text(encoding="utf-8")) if test.is_file() else None
    except OSError as error:
        raise OutputError(f"cannot record {folder}: {error}") from error
    write_run(target, replace(files, test_verb=test_verb))
    write_bytes(target.with_suffix(".png"), curves)
    return target


def _check_identity(folder: Path, run: RunRecord, target: Path, recorded: Iterable[tuple[Path, RunFiles]]) -> None:
    """A recipe's name stands for its settings: only runs of exactly those are its results.

    Raises:
        ConfigError: flags changed the recipe, the code is in no commit, the test was not whole, or the recipe's
            recorded runs have other settings or this seed already.
    """
    first, *later = [_flags(session.command) for session in run.sessions]
    # The first --config names the recipe: one more beside it, or when the run went on, makes it something else.
    configs = [flag for flags in (first, *later) for flag in flags if flag in CONFIG_FLAGS]
    one_more = configs[1:] if set(first) & set(CONFIG_FLAGS) else configs
    if changed := (set(first).union(*later) - NEUTRAL_FLAGS - {"-m", "--ckpt", "--debug", *CONFIG_FLAGS}) | set(
        one_more
    ):
        raise ConfigError(
            f"{folder} is not the recipe {run.recipe}: {', '.join(sorted(changed))} changed it; put the settings "
            "into a YAML file of their own, commit it and train with --config"
        )
    if any(session.dirty is not False for session in run.sessions):
        raise ConfigError(f"{folder} ran code that is in no commit: commit first, then train")
    tested = run.metrics["test"]["images"]
    if tested != (expected := SAMPLE_TEST_IMAGES if run.sample else TEST_IMAGES):
        raise ConfigError(f"{folder} was tested on {tested:,} images; a result needs all {expected:,}")
    for path, other in recorded:
        if path == target or other.run.recipe != run.recipe:
            continue
        if other.run.seed == run.seed:
            raise ConfigError(f"{folder}: seed {run.seed} of {run.recipe} is recorded already, in {path}")
        if differing(settings_of(run.config), settings_of(other.run.config)):
            raise ConfigError(f"{folder} and {path} have the recipe's name in common and not its settings")


def _flags(command: str) -> list[str]:
    return [part.partition("=")[0] for part in shlex.split(command) if part.startswith("-")]


def read_results(results: Path) -> list[tuple[Path, RunFiles]]:
    """Every run that `record` has written, with its path, ordered by path: those that lie under their recipe's name."""
    archived = [(path, read_run(path)) for path in sorted((results / RUNS).glob("*/*.json"))]
    return [(path, files) for path, files in archived if path.parent.name == files.run.recipe]
