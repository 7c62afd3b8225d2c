"""What `predict` makes of its predictions: the console's table, a file of all rows, and a sheet of thumbnails."""

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

from cifar_lightning.inference.predictor import Prediction, Predictor
from cifar_lightning.inference.preprocess import SIZE, Pixels
from cifar_lightning.runs.atomic import write_bytes

SUFFIXES = (".csv", ".json", ".jsonl")


@dataclass(frozen=True)
class Row:
    """An image's line."""

    name: str  # of the file, or the number in the test set
    prediction: Prediction | None = None  # None where the image could not be read
    error: str = ""  # why it could not
    label: str = ""  # the true class, where it is known


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
        runners = ", ".join(f"{other} {probability:.2%}" for other, probability in others)
        yield f"{name}{' ' * (width - cell_len(name))}  {best:<{classes}}  {share:>11.2%}  {runners}".rstrip()


def render(suffix: str, rows: Sequence[Row], k: int, predictor: Predictor) -> str:
    """All rows, failed ones included, in the format of one of `SUFFIXES`."""
    records = [_record(row, k, predictor) for row in rows]
    if suffix == ".csv":
        return _csv(records, k)
    if suffix == ".jsonl":
        return "".join(json.dumps(record) + "\n" for record in records)
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
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _record(row: Row, k: int, predictor: Predictor) -> dict[str, Any]:
    record: dict[str, Any] = {"file": row.name, **({"label": row.label} if row.label else {})}
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
    columns = ["file", *(["label"] if any("label" in record for record in records) else []), "class", "probability"]
    columns += [f"{name}_{rank}" for rank in range(2, k + 1) for name in ("class", "probability")]
    columns += ["tta", "temperature", "error"]
    text = io.StringIO()
    rows = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    for record in records:
        # A name that is no text (Linux allows any bytes) cannot be written as UTF-8; others stay as they are.
        flat = {**record, "file": record["file"].encode("utf-8", "backslashreplace").decode("utf-8")}
        for rank, entry in enumerate(record.get("top", []), start=1):
            flat |= {f"{name}_{rank}": value for name, value in entry.items()}
        rows.writerow(flat)
    return text.getvalue()


LIMIT = 500  # images on a sheet; a larger one is hard to open

_COLUMNS = 8
_SIDE = 4 * SIZE
_GAP = 22  # between two thumbnails
_MARGIN, _LINE = 20, 20
_INK, _FAINT, _BAR, _TRACK, _WRONG = "#1a1d21", "#5f6771", "#1f6fb4", "#e4e7eb", "#b3261e"


def write_sheet(path: Path, rows: Sequence[Row], pixels: Sequence[Pixels], title: Sequence[str]) -> None:
    """Draws each image as the net saw it, with its class; a line above says so where there are more than `LIMIT`.

    Args:
        path: replaced by the PNG.
        rows: those with a prediction, in their order.
        pixels: uint8 (32, 32, 3) of the first of them, as many as are drawn.
        title: the lines above everything.

    Raises OutputError: it cannot be written.
    """
    if len(pixels) < len(rows):
        title = [*title, f"the first {len(pixels):,} of {len(rows):,} images"]
    head, across, down = _MARGIN + _LINE * len(title) + 12, _SIDE + _GAP, _SIDE + 66
    columns = max(min(_COLUMNS, len(pixels)), 4)
    height = head + -(-len(pixels) // columns) * down + _MARGIN
    sheet = Image.new("RGB", (2 * _MARGIN + columns * across - _GAP, height), "white")
    draw = ImageDraw.Draw(sheet)
    for place, line in enumerate(title):
        fitted = _fitted(line, _font(12), sheet.width - 2 * _MARGIN)
        draw.text((_MARGIN, _MARGIN + place * _LINE), fitted, _FAINT, _font(12))
    for place, (row, image) in enumerate(zip(rows, pixels, strict=False)):
        assert row.prediction is not None
        share, name = row.prediction.probability, row.prediction.class_name
        left, top = _MARGIN + place % columns * across, head + place // columns * down
        sheet.paste(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (left, top))
        below = top + _SIDE + 4
        draw.rectangle((left, below, left + _SIDE - 1, below + 3), _TRACK)
        draw.rectangle((left, below, left + max(round(share * _SIDE) - 1, 0), below + 3), _BAR)
        is_wrong = row.label not in ("", name)
        draw.text((left, below + 8), f"{name} {share:.0%}", _WRONG if is_wrong else _INK, _font(14, bold=True))
        second_line = f"is {row.label}" if is_wrong else printable(Path(row.name).name)
        draw.text((left, below + 28), _fitted(second_line, _font(11), _SIDE), _FAINT, _font(11))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    write_bytes(path, stream.getvalue())


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib brings it along: the same letters on every machine, far beyond Latin ones.
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) > width:
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        text += "…"
    return text
