"""Folders with files and folders that cannot be read: the good ones are answered, each bad one is named."""

import csv
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
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


def test_links_in_a_circle_and_a_locked_folder(run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "locked":  # root, as which containers run tests, may enter any folder
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for name in ("shots/a.png", "shots/locked/b.png", "shots/z/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(name)
    for name, other in (("link", "knil"), ("knil", "link"), ("d.png", "d.png"), ("z/around", "..")):
        os.symlink(other, f"shots/{name}")
    names = ("shots", "shots/d.png", "shots/locked")
    exit_code, out, err = run("predict", "--ckpt", str(ckpt), "--images", *names, "--output", "preds.csv")
    assert exit_code == 6
    assert [line.split()[0] for line in out.splitlines()[3:5]] == ["shots/a.png", "shots/z/c.png"]
    loop, locked = os.strerror(errno.ELOOP), os.strerror(errno.EACCES)
    assert err.splitlines() == [
        f"error: shots/d.png cannot be read: {loop}",
        f"error: shots/d.png cannot be read: {loop}",
        f"error: shots/knil cannot be read: {loop}",
        f"error: shots/link cannot be read: {loop}",
        f"error: shots/locked cannot be read: {locked}",
        f"error: shots/locked cannot be read: {locked}",
        "error: 6 of 8 not classified",
    ]
