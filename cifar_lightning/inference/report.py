"""What `predict` says of each picture: a table for the console, and CSV, JSON or JSON lines for a file."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from cifar_lightning.errors import ConfigError
from cifar_lightning.files import write_text
from cifar_lightning.inference.predictor import Predictor
from cifar_lightning.inference.verdict import Prediction

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
