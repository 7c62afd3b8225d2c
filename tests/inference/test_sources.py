"""What `--images` names."""

import os
from pathlib import Path

import pytest

from cifar_lightning.inference.inputs import find_images


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "cat.png", "b/10.JPG", "b/9.jpeg", "b/inner/x.webp", "b/notes.txt", "b/.hidden.png", "b/.git/y.png",
        "tüte/ä [1].png", "odd", "z[1].png", "z1.png",
    ):  # fmt: skip
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.touch()


def names(*arguments: str) -> list[str]:
    return [str(path) for path in find_images(arguments).files]


def test_the_order_is_the_order_given_and_folders_are_sorted() -> None:
    assert names("tüte", "b", "cat.png") == ["tüte/ä [1].png", "b/10.JPG", "b/9.jpeg", "b/inner/x.webp", "cat.png"]
    Path("b/IMG_1.HEIC").touch()
    assert find_images(["b"]).left_out == {".txt": 1, ".heic": 1}


def test_what_is_named_twice_is_there_twice() -> None:
    assert names("cat.png", "cat.png", "./cat.png") == ["cat.png", "cat.png", "cat.png"]


def test_a_file_that_is_named_counts_whatever_its_suffix() -> None:
    assert names("odd", "b/notes.txt", "b/.hidden.png") == ["odd", "b/notes.txt", "b/.hidden.png"]


def test_patterns() -> None:
    assert names("b/*.[jJ]*", "**/*.webp") == ["b/10.JPG", "b/9.jpeg", "b/inner/x.webp"]
    assert names("z[1].png") == ["z[1].png"]  # there is a file of this very name
    os.remove("z[1].png")
    assert names("z[1].png") == ["z1.png"]
    assert names("*/inner") == ["b/inner/x.webp"]


def test_what_leads_to_no_picture() -> None:
    Path("empty").mkdir()
    os.symlink("nowhere", "dangling.png")
    found = find_images(["empty", "no.png", "*.gif", "cat.png", "dangling.png", "https://a.b/c.png", "-"])
    assert found.problems == [
        ("empty", "holds no image"),
        ("no.png", "does not exist"),
        ("*.gif", "matches no file"),
        ("https://a.b/c.png", "is a URL, and nothing is fetched: download the file and give its path"),
        ("-", "is not read from: give files or folders"),
    ]
    assert [str(path) for path in found.files] == ["cat.png", "dangling.png"]  # reading it says what it is


def test_links() -> None:
    os.symlink("../cat.png", "b/link.png")
    os.symlink("..", "b/inner/loop")
    os.symlink("b", "other")
    assert names("other") == ["other/10.JPG", "other/9.jpeg", "other/inner/x.webp", "other/link.png"]
