"""A folder of a thousand files, a third of them broken: the good ones are answered, each bad one is named."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from inference.test_picture import png_of
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


def test_a_thousand_files_a_third_of_them_broken(run: Run, ckpt: Path) -> None:
    whole = io.BytesIO()
    Image.effect_noise((32, 32), 90).convert("RGB").save(whole, "PNG")
    good = whole.getvalue()
    ways = [b"", b"hello", good[:-60], good[:20], png_of(50_000, 50_000), png_of(64, 64)]
    folder = Path("shots")
    folder.mkdir()
    broken = set()
    for index in range(1000):
        path = folder / f"{index:04}.png"
        if index % 3 == 0:
            broken.add(str(path))
        path.write_bytes(ways[index // 3 % len(ways)] if index % 3 == 0 else good)
    exit_code, _, err = run("predict", "--ckpt", str(ckpt), "--images", "shots", "--output", "preds.csv")
    assert exit_code == 6
    lines = err.splitlines()
    assert {line.split()[1] for line in lines[:-1]} == broken
    assert lines[-1] == f"error: {len(broken)} of 1,000 not classified"
    assert "Traceback" not in err
    with open("preds.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(path) for path in sorted(folder.iterdir())]
    assert {row["file"] for row in rows if row["error"]} == broken
    assert all(row["class"] for row in rows if not row["error"])
