"""`python -m cifar_lightning predict`: the user's images, or the official test set, through a trained net."""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from cifar_lightning.errors import ConfigError, ImageError, OutputError
from cifar_lightning.inference import output
from cifar_lightning.inference.inputs import Found, find_images, read_all
from cifar_lightning.inference.loading import official_test
from cifar_lightning.inference.options import Parser, load_predictor
from cifar_lightning.inference.output import Row, printable
from cifar_lightning.inference.predictor import Prediction, Predictor
from cifar_lightning.inference.preprocess import Pixels
from cifar_lightning.runs import calibration
from cifar_lightning.runs.atomic import write_text

PIPE = Path("-")  # as --output: standard output

Item = TypeVar("Item")


def main(argv: list[str]) -> int:
    """Prints the predictions, and writes the files that flags ask for.

    Returns:
        0, or 6 where some of the images could not be read; the others are done all the same.

    Raises UserError: a flag or the checkpoint is wrong, CIFAR-10 is not there, or a file cannot be written.
    """
    options = _parse(argv)
    if options.output == PIPE:  # standard output belongs to the records alone
        with contextlib.redirect_stdout(sys.stderr):
            exit_code, text = _predict(options)
        sys.stdout.write(text)
        return exit_code
    return _predict(options)[0]


def _predict(options: argparse.Namespace) -> tuple[int, str]:
    """The exit code, and the text of `--output`."""
    found = find_images(options.images)
    files = [path for path in (options.output, options.sheet) if path not in (None, PIPE)]
    _check_targets(files, found)
    predictor = load_predictor(options)
    classes = len(predictor.class_names)
    if not 1 <= options.top_k <= classes:
        raise ConfigError(f"--top-k must be from 1 to {classes}, got {options.top_k}")
    trained, conditions = predictor.trained, output.conditions(predictor)
    remark = ""
    if predictor.temperature is None:
        others = calibration.stale(trained.path, trained.sha256)
        remark = ", not calibrated" + (f", {others[0].name} belongs to other weights" if others else "")
    print(f"weights  {trained}\n         {conditions}{remark}")
    if options.split:
        rows, pixels = _test_split(predictor, options.root)
    else:
        rows, pixels = _files(predictor, found.files, keep=output.LIMIT if options.sheet else 0)
        for line in output.table(rows, options.top_k):
            print(line)
    done = [row for row in rows if row.prediction is not None]
    rows += [Row(name, error=reason) for name, reason in found.problems]
    if found.left_out:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in found.left_out.most_common())
        heic = "; HEIC is not read, save it as JPEG" if {".heic", ".heif"} & set(found.left_out) else ""
        print(f"left out {found.left_out.total():,} file(s) that by their names are no images: {kinds}{heic}")
    text = ""
    if options.output:
        suffix = ".jsonl" if options.output == PIPE else options.output.suffix.lower()
        text = output.render(suffix, rows, options.top_k, predictor)
    if options.output in files:
        write_text(options.output, text)
        print(f"written  {options.output}")
    if options.sheet and not done:
        print("no sheet: no image could be read")
    elif options.sheet:
        output.write_sheet(options.sheet, done, pixels, [str(trained), conditions])
        print(f"written  {options.sheet}")
    sys.stdout.flush()
    failures = [row for row in rows if row.error]
    for row in failures:
        print(f"error: {printable(row.name)} {row.error}", file=sys.stderr)
    if failures:
        print(f"error: {len(failures):,} of {len(rows):,} not classified", file=sys.stderr)
    return ImageError.exit_code if failures else 0, text


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        "predict",
        "Classify images of any size: the centre square, resized to 32x32 with anti-aliasing.",
        "Probabilities are calibrated where `test --calibrate` has fitted a temperature for these very weights.",
    )
    add = parser.add_argument
    add("paths", nargs="*", default=[], metavar="NAME", help="files, folders and quoted patterns such as 'shots/*.jpg'")
    add("--images", nargs="+", default=[], metavar="NAME", help="the same")
    add("--split", choices=("test",), help="the 10,000 official test images instead, with the accuracy")
    add("--output", type=Path, metavar="FILE",
        help="all predictions as .csv, .json or .jsonl; - writes JSON lines to standard output")  # fmt: skip
    add("--sheet", type=Path, metavar="FILE", help="thumbnails with their predictions as .png")
    add("--top-k", type=int, default=2, metavar="K", help="how many classes to name for each image (default: 2)")
    add("--data.root", dest="root", metavar="DIR", help="where the data set is, for --split")
    parser.add_device_flags()
    options = parser.parse(argv)
    options.images += options.paths
    if bool(options.images) == bool(options.split):
        parser.error("give either files or folders, or --split test")
    if options.root and not options.split:
        parser.error("--data.root belongs to --split test")
    if options.output not in (None, PIPE) and options.output.suffix.lower() not in output.SUFFIXES:
        parser.error(f"--output {options.output}: the suffix is the format; give one of {', '.join(output.SUFFIXES)}")
    if options.sheet and options.sheet.suffix.lower() != ".png":
        parser.error(f"--sheet {options.sheet}: the sheet is a PNG; give a name that ends in .png")
    return options


def _check_targets(targets: Sequence[Path], found: Found) -> None:
    """Before anything is computed: a target that cannot be written, or that would replace one of the images."""
    images = {os.path.realpath(file) for file in found.files} if targets else set()
    for target in targets:
        if os.path.realpath(target) in images:
            raise ConfigError(f"{target} is one of the images, and would be replaced; give another name")
        if target.is_dir():
            raise OutputError(f"{target} is a folder; give the name of a file")
        if not target.parent.is_dir():
            raise OutputError(f"cannot write {target}: there is no folder {target.parent}")


def _files(predictor: Predictor, files: Sequence[Path], keep: int) -> tuple[list[Row], list[Pixels]]:
    """A row for each file, and the pixels of the first `keep` that could be read."""
    # What Pillow warns of (a damaged EXIF tag, a large image) is either an error of ours or nothing to act on.
    warnings.filterwarnings("ignore", module="PIL")
    errors: dict[int, str] = {}  # by the place in `files`
    predictions: list[Prediction] = []
    kept: list[Pixels] = []

    def readable() -> Iterator[Pixels]:
        for index, outcome in enumerate(progress(read_all(files), len(files))):
            if isinstance(outcome, ImageError):
                errors[index] = str(outcome)
            else:
                yield outcome

    images = readable()
    while batch := list(islice(images, predictor.batch_size)):
        predictions += predictor.predictions(torch.from_numpy(np.stack(batch)))
        kept += batch[: keep - len(kept)]
    others = iter(predictions)
    rows = [
        Row(str(file), error=errors[index]) if index in errors else Row(str(file), next(others))
        for index, file in enumerate(files)
    ]
    return rows, kept


def _test_split(predictor: Predictor, root: str | None) -> tuple[list[Row], list[Pixels]]:
    """Prints the accuracy; a row for each test image, and the pixels for the sheet."""
    images, labels = official_test(predictor.trained, root)
    predictions = list(progress(predictor.predictions(images), len(images)))
    rows, correct = [], 0
    for index, (prediction, label) in enumerate(zip(predictions, labels.tolist(), strict=True)):
        rows.append(Row(f"test/{index}", prediction, label=predictor.class_names[label]))
        correct += prediction.class_index == label
    beside = f"{len(rows):,} test images, {predictor.trained.source}, {output.conditions(predictor)}"
    print(f"test     accuracy {correct / len(rows):.2%}  ({beside})")
    return rows, list(images[: output.LIMIT].numpy())


def progress(items: Iterable[Item], total: int) -> Iterable[Item]:
    """The items, with a bar on a terminal: on standard error, so that the table can go into a file."""
    is_terminal = sys.stderr.isatty()
    return track(items, "", total, console=Console(stderr=True), transient=True, disable=not is_terminal)
