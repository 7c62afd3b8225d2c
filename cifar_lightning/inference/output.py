"""A sheet of thumbnails: each picture as the net saw it, with its verdict, as one PNG."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len

from cifar_lightning.errors import ConfigError
from cifar_lightning.inference.predictor import Prediction, Predictor
from cifar_lightning.inference.preprocess import SIZE, Pixels
from cifar_lightning.runs.atomic import write_bytes, write_text

SUFFIXES = (".csv", ".json", ".jsonl")


@dataclass(frozen=True)
class Row:
    """A picture's line.

    Args:
        name: of the file, or the number in the test set.
        prediction: None where the picture could not be read.
        error: why it could not.
        label: the true class, where it is known.
    """

    name: str
    prediction: Prediction | None = None
    error: str = ""
    label: str = ""


def printable(name: str) -> str:
    """A file's name in which nothing moves the cursor, and which the console's encoding can say."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in name)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def conditions(predictor: Predictor) -> str:
    """What stands beside every number: precision, and whatever made it another number than the net's own."""
    parts = [f"{predictor.precision} on {predictor.device.type}"]
    if predictor.tta.views != "none":
        parts.append(f"TTA {predictor.tta}")
    if predictor.temperature is not None:
        parts.append(f"calibrated, temperature {predictor.temperature:.3f}")
    return ", ".join(parts)


def table(rows: Sequence[Row], k: int) -> Iterator[str]:
    """The console's lines: file, class, probability and, from the second class on, the runners-up."""
    done = [(printable(row.name), row.prediction) for row in rows if row.prediction is not None]
    if not done:
        return
    width = max(cell_len("file"), *(cell_len(name) for name, _ in done))
    classes = max(len("class"), *(len(name) for name in done[0][1].class_names))
    title = f"file{' ' * (width - 4)}  {'class':<{classes}}  probability"
    yield f"{title}  {'runner-up' if k == 2 else 'runners-up'}" if k > 1 else title
    for name, prediction in done:
        (best, share), *others = prediction.top(k)
        runners = ", ".join(f"{other} {its:.2%}" for other, its in others)
        yield f"{name}{' ' * (width - cell_len(name))}  {best:<{classes}}  {share:>11.2%}  {runners}".rstrip()


def check_suffix(path: Path) -> None:
    """Before anything is computed.

    Raises:
        ConfigError: the suffix names no format of `write`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--output {path}: the suffix decides the format; give one of {', '.join(SUFFIXES)}")


def write(path: Path, rows: Sequence[Row], k: int, predictor: Predictor) -> None:
    """Replaces `path`, in the format of its suffix, by all rows, those that failed included.

    Raises:
        OutputError: it cannot be written.
    """
    records = [_record(row, k, predictor) for row in rows]
    suffix = path.suffix.lower()
    if suffix == ".csv":
        write_text(path, _csv(records, k))
    elif suffix == ".jsonl":
        write_text(path, "".join(json.dumps(record) + "\n" for record in records))
    else:
        trained = predictor.trained
        content = {
            "checkpoint": trained.path.name,
            "checkpoint_sha256": trained.sha256,
            "recipe": trained.recipe,
            "seed": trained.seed,
            "trained_on": trained.source,
            "precision": predictor.precision,
            "predictions": records,
        }
        write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _record(row: Row, k: int, predictor: Predictor) -> dict[str, Any]:
    record: dict[str, Any] = {"file": row.name}
    if row.label:
        record["label"] = row.label
    if row.prediction is None:
        return {**record, "error": row.error}
    return {
        **record,
        "class": row.prediction.class_name,
        "probability": row.prediction.probability,
        "top": [{"class": name, "probability": share} for name, share in row.prediction.top(k)],
        "tta": str(predictor.tta),
        "temperature": predictor.temperature,
    }


def _csv(records: Sequence[dict[str, Any]], k: int) -> str:
    ranks = [(f"class_{place}", f"probability_{place}") for place in range(2, k + 1)]
    columns = ["file", *(["label"] if any("label" in record for record in records) else []), "class", "probability"]
    columns += [name for pair in ranks for name in pair] + ["tta", "temperature", "error"]
    text = io.StringIO()
    rows = csv.DictWriter(text, columns, extrasaction="ignore", restval="", lineterminator="\n")
    rows.writeheader()
    for record in records:
        flat = dict(record)
        for (name, share), entry in zip(ranks, record.get("top", [])[1:], strict=False):
            flat |= {name: entry["class"], share: entry["probability"]}
        # A name that is no text (Linux allows any bytes) cannot be written as UTF-8; others stay as they are.
        flat["file"] = record["file"].encode("utf-8", "backslashreplace").decode("utf-8")
        rows.writerow(flat)
    return text.getvalue()


LIMIT = 500  # pictures on a sheet; a larger one is hard to open

_COLUMNS = 8
_SCALE = 4
_SIDE = _SCALE * SIZE
_CELL = (_SIDE + 22, _SIDE + 66)
_MARGIN, _LINE = 20, 20
_INK, _FAINT, _BAR, _TRACK, _WRONG = "#1a1d21", "#5f6771", "#1f6fb4", "#e4e7eb", "#b3261e"


def write_sheet(path: Path, rows: Sequence[Row], pixels: Sequence[Pixels], title: Sequence[str]) -> None:
    """Draws the sheet; at most `LIMIT` pictures, and a line above them says so where there are more.

    Args:
        path: replaced by the PNG.
        rows: those with a prediction, in their order.
        pixels: uint8 (32, 32, 3) of the first of them, as many as are drawn.
        title: the lines above everything.

    Raises:
        OutputError: it cannot be written.
    """
    shown = list(zip(rows, pixels[:LIMIT], strict=False))
    if len(shown) < len(rows):
        title = [*title, f"the first {len(shown):,} of {len(rows):,} pictures"]
    head = _MARGIN + _LINE * len(title) + 12
    columns = max(min(_COLUMNS, len(shown)), 4)
    height = -(-len(shown) // columns) * _CELL[1]
    sheet = Image.new("RGB", (2 * _MARGIN + columns * _CELL[0] - 22, head + height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for place, line in enumerate(title):
        shortened = _fitted(line, _font(12), sheet.width - 2 * _MARGIN)
        draw.text((_MARGIN, _MARGIN + place * _LINE), shortened, _FAINT, _font(12))
    for place, (row, picture) in enumerate(shown):
        down, across = divmod(place, columns)
        _cell(draw, sheet, (_MARGIN + across * _CELL[0], head + down * _CELL[1]), row, picture)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    write_bytes(path, stream.getvalue())


def _cell(draw: ImageDraw.ImageDraw, sheet: Image.Image, corner: tuple[int, int], row: Row, picture: Pixels) -> None:
    assert row.prediction is not None
    left, top = corner
    share, verdict = row.prediction.probability, row.prediction.class_name
    sheet.paste(Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.NEAREST), corner)
    below = top + _SIDE + 4
    draw.rectangle((left, below, left + _SIDE - 1, below + 3), _TRACK)
    draw.rectangle((left, below, left + max(round(share * _SIDE) - 1, 0), below + 3), _BAR)
    is_wrong = bool(row.label) and row.label != verdict
    draw.text((left, below + 8), f"{verdict} {share:.0%}", _WRONG if is_wrong else _INK, _font(14, bold=True))
    name = f"is {row.label}" if is_wrong else printable(Path(row.name).name)
    draw.text((left, below + 28), _fitted(name, _font(11), _SIDE), _FAINT, _font(11))


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib brings it along: the same letters on every machine, far beyond Latin ones.
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
