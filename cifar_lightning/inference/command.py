"""`python -m cifar_lightning predict`: pictures of the user's, or the official test set, through a trained net."""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from cifar_lightning.errors import ConfigError, OutputError, PictureError
from cifar_lightning.inference import output
from cifar_lightning.inference.inputs import Found, find_pictures, read_all
from cifar_lightning.inference.loading import official_test
from cifar_lightning.inference.options import Parser, load_predictor
from cifar_lightning.inference.output import Row, printable
from cifar_lightning.inference.predictor import Prediction, Predictor
from cifar_lightning.inference.preprocess import Pixels
from cifar_lightning.runs import calibration

UNREADABLE = PictureError.exit_code


def main(argv: list[str]) -> int:
    """Prints the verdicts, and writes the files that flags ask for.

    Returns:
        0, or 6 where some of the pictures could not be read; the others are done all the same.

    Raises:
        ConfigError: a flag is wrong.
        CheckpointError: there is no such checkpoint, or it cannot be used.
        DataError: `--split test` finds no CIFAR-10.
        OutputError: a file cannot be written.
    """
    options = _parse(argv)
    found = find_pictures(options.images or [])
    _check_targets([path for path in (options.output, options.sheet) if path is not None], found)
    predictor = load_predictor(options)
    print(f"weights  {predictor.trained}")
    print(f"         {output.conditions(predictor)}{_advice(predictor)}")
    if options.split:
        rows, pixels, summary = _test_split(predictor, options)
    else:
        rows, pixels = _files(predictor, found, keep=output.LIMIT if options.sheet else 0)
        summary = ""
        for line in output.table(rows, options.top_k):
            print(line)
    failures = [(row.name, row.error) for row in rows if row.error] + found.problems
    if found.left_out:
        print(f"left out {found.left_out:,} in the folders that by their names are no pictures")
    if summary:
        print(summary)
    if options.output:
        every = [*rows, *(Row(name, error=reason) for name, reason in found.problems)]
        output.write(options.output, every, options.top_k, predictor)
        print(f"written  {options.output}")
    if options.sheet and not pixels:
        print("no sheet: no picture could be read")
    elif options.sheet:
        done = [row for row in rows if row.prediction is not None]
        output.write_sheet(options.sheet, done, pixels, [str(predictor.trained), output.conditions(predictor)])
        print(f"written  {options.sheet}")
    sys.stdout.flush()
    for name, reason in failures:
        print(f"error: {printable(name)} {reason}", file=sys.stderr)
    if failures:
        print(f"error: {len(failures):,} of {len(rows) + len(found.problems):,} not classified", file=sys.stderr)
    return UNREADABLE if failures else 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        "predict",
        "Classify pictures of any size: the centre square, resized to 32x32 with anti-aliasing.",
        "Probabilities are calibrated where `test --calibrate` has fitted a temperature for these very weights.",
    )
    add = parser.add_argument
    add("--images", nargs="+", metavar="NAME", help="files, folders and quoted patterns such as 'shots/*.jpg'")
    add("--split", choices=("test",), help="the 10,000 official test images instead, with the accuracy")
    add("--output", type=Path, metavar="FILE", help="all verdicts as .csv, .json or .jsonl")
    add("--sheet", type=Path, metavar="FILE", help="thumbnails with their verdicts as .png")
    add("--top-k", type=int, default=2, metavar="K", help="how many classes to name for each picture (default: 2)")
    add("--data.root", dest="root", metavar="DIR", help="where CIFAR-10 is, for --split")
    parser.add_device_flags()
    options = parser.parse(argv)
    if bool(options.images) == bool(options.split):
        parser.error("give either --images with files or folders, or --split test")
    if options.root and not options.split:
        parser.error("--data.root belongs to --split test")
    if not 1 <= options.top_k <= 10:
        parser.error(f"--top-k must be from 1 to 10, got {options.top_k}")
    if options.output:
        output.check_suffix(options.output)
    if options.sheet and options.sheet.suffix.lower() != ".png":
        parser.error(f"--sheet {options.sheet}: the sheet is a PNG; give a name that ends in .png")
    return options


def _check_targets(targets: Sequence[Path], found: Found) -> None:
    """Before anything is computed: a target that cannot be written, or that would replace one of the pictures."""
    pictures = {file.resolve() for file in found.files} if targets else set()
    for target in targets:
        if target.resolve() in pictures:
            raise ConfigError(f"{target} is one of the pictures, and would be replaced; give another name")
        if target.is_dir():
            raise OutputError(f"{target} is a folder; give the name of a file")
        if not target.parent.is_dir():
            raise OutputError(f"cannot write {target}: there is no folder {target.parent}")


def _advice(predictor: Predictor) -> str:
    if predictor.temperature is not None:
        return ""
    trained = predictor.trained
    old = calibration.stale(trained.path, trained.sha256)
    reason = f", {old[0].name} belongs to other weights" if old else ""
    return f", not calibrated{reason}"


def _files(predictor: Predictor, found: Found, keep: int) -> tuple[list[Row], list[Pixels]]:
    """A row for each file, and the pixels of the first `keep` that could be read."""
    # What Pillow warns of (a damaged EXIF tag, a large picture) is either an error of ours or nothing to act on.
    warnings.filterwarnings("ignore", module="PIL")
    outcomes: list[Prediction | PictureError | None] = []
    kept: list[Pixels] = []
    batch: list[tuple[int, Pixels]] = []

    def classify() -> None:
        if batch:
            images = torch.stack([torch.from_numpy(pixels) for _, pixels in batch])
            for (index, _), prediction in zip(batch, predictor.predictions(images), strict=True):
                outcomes[index] = prediction
            batch.clear()

    with progress_bar(len(found.files)) as advance:
        for outcome in read_all(found.files):
            if isinstance(outcome, PictureError):
                outcomes.append(outcome)
            else:
                batch.append((len(outcomes), outcome))
                outcomes.append(None)
                kept += [outcome] if len(kept) < keep else []
            if len(batch) == predictor.batch_size:
                classify()
            advance()
        classify()
    rows = []
    for file, result in zip(found.files, outcomes, strict=True):
        if isinstance(result, PictureError):
            rows.append(Row(str(file), error=str(result)))
        else:
            rows.append(Row(str(file), result))
    return rows, kept


def _test_split(predictor: Predictor, options: argparse.Namespace) -> tuple[list[Row], list[Pixels], str]:
    """A row for each test image, the pixels for the sheet, and the line of the score."""
    images, labels = official_test(predictor.trained, options.root)
    names = predictor.class_names
    rows, correct = [], 0
    with progress_bar(len(images)) as advance:
        for index, prediction in enumerate(predictor.predictions(images)):
            label = int(labels[index])
            correct += label == prediction.class_index
            rows.append(Row(f"test/{index}", prediction, label=names[label]))
            advance()
    beside = f"{len(rows):,} test images, {predictor.trained.source}, {output.conditions(predictor)}"
    return rows, list(images[: output.LIMIT].numpy()), f"test     accuracy {correct / len(rows):.2%}  ({beside})"


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, on standard error so that the table can go into a file; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich import progress
    from rich.console import Console

    columns = (progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
