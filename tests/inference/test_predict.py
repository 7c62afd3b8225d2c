"""The verb `predict`: table, files, sheet, errors and exit codes."""

import csv
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from data.official_format import CLASSES
from inference.checkpoints import write_checkpoint
from PIL import Image

from cifar_lightning.inference import Predictor, command
from cifar_lightning.inference.loading import official_test

Run = Callable[..., tuple[int, str, str]]
Fit = Callable[..., tuple[Path, str]]


@pytest.fixture
def pictures(run: Run) -> Path:
    """A folder with three pictures in the working folder of `run`."""
    folder = Path("phötos")
    folder.mkdir()
    Image.new("RGB", (80, 60), "red").save(folder / "b.jpg")
    Image.effect_noise((50, 70), 90).save(folder / "a b.png")
    Image.linear_gradient("L").save(folder / "c.webp")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def read(path: str) -> Any:
    text = Path(path).read_text(encoding="utf-8")
    if path.endswith(".csv"):
        return list(csv.DictReader(text.splitlines()))
    return [json.loads(line) for line in text.splitlines()] if path.endswith(".jsonl") else json.loads(text)


def test_a_table_in_the_order_given(run: Run, ckpt: Path, pictures: Path) -> None:
    exit_code, out, err = run("predict", "--ckpt", str(ckpt), "--images", "phötos/c.webp", "phötos")
    assert (exit_code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"weights  {ckpt} (tiny, seed 7, CIFAR-10, 2 epochs)"
    assert lines[1] == "         32-true on cpu, not calibrated"
    assert lines[2].split() == ["file", "class", "probability", "runner-up"]
    assert [line[:14].strip() for line in lines[3:]] == [
        "phötos/c.webp",
        "phötos/a b.png",
        "phötos/b.jpg",
        "phötos/c.webp",
    ]
    (first,) = Predictor.load(ckpt)(pictures / "c.webp")
    (name, share), (other, its) = first.top(2)
    assert lines[3].split()[1:] == [name, f"{share:.2%}", other, f"{its:.2%}"]
    assert lines[3] == lines[6]


def test_files_of_every_kind_say_the_same(run: Run, ckpt: Path, pictures: Path) -> None:
    (pictures / "text.png").write_text("no picture")
    for suffix in ("csv", "json", "jsonl"):
        arguments = ("--images", "phötos", "nowhere.png", "--output", f"out.{suffix}", "--top-k", "3")
        exit_code, _, err = run("predict", "--ckpt", str(ckpt), *arguments)
        assert exit_code == 6
        assert err.splitlines() == [
            "error: phötos/text.png is no image in a format that is read (" + err.split("(")[1].splitlines()[0],
            "error: nowhere.png does not exist",
            "error: 2 of 5 not classified",
        ]
    content = read("out.json")
    assert content["recipe"] == "tiny"
    assert content["checkpoint"] == "tiny.ckpt"
    lines, rows = read("out.jsonl"), read("out.csv")
    assert content["predictions"] == lines
    assert [row["file"] for row in rows] == [line["file"] for line in lines] == [
        "phötos/a b.png", "phötos/b.jpg", "phötos/c.webp", "phötos/text.png", "nowhere.png",
    ]  # fmt: skip
    for line, row in zip(lines[:3], rows, strict=False):
        assert row["class"] == line["class"] == line["top"][0]["class"]
        assert float(row["probability"]) == line["probability"]
        assert [row["class_2"], row["class_3"]] == [its["class"] for its in line["top"][1:]]
        assert float(row["probability_3"]) == line["top"][2]["probability"]
        assert (row["tta"], row["temperature"], row["error"]) == ("none", "", "")
    assert "is no image" in rows[3]["error"] == lines[3]["error"]
    assert rows[3]["class"] == ""


def test_a_test_image_is_the_same_from_a_file_and_from_the_data_set(run: Run, ckpt: Path) -> None:
    images, _ = official_test(Predictor.load(ckpt).trained)
    Path("test").mkdir()
    for index, image in enumerate(images.numpy()):
        Image.fromarray(image).save(f"test/{index:02}.png")
    assert run("predict", "--ckpt", str(ckpt), "--images", "test", "--output", "a.json", "--top-k", "10")[0] == 0
    assert run("predict", "--ckpt", str(ckpt), "--split", "test", "--output", "b.json", "--top-k", "10")[0] == 0
    files, split = read("a.json")["predictions"], read("b.json")["predictions"]
    assert len(files) == 12
    assert [line["top"] for line in files] == [line["top"] for line in split]
    assert [line["label"] for line in split] == [CLASSES[index % 10] for index in range(12)]


def test_the_accuracy_is_that_of_test(fit: Fit, run: Run) -> None:
    folder, _ = fit()
    assert run("test", "--ckpt", "--tta", "flip")[0] == 0
    scored = json.loads((folder / "test.json").read_text())
    before = digests(folder)
    for flags, accuracy in (((), scored["accuracy"]), (("--tta", "flip"), scored["tta"]["accuracy"])):
        exit_code, out, _ = run("predict", "--ckpt", "--split", "test", *flags)
        assert exit_code == 0
        named = ", TTA flip" if flags else ""
        assert (
            f"test     accuracy {accuracy:.2%}  (12 test images, CIFAR-10, {scored['precision']} on cpu{named})" in out
        )
    assert digests(folder) == before  # nothing is written into a run


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    assert list(command.progress("abc", 3)) == ["a", "b", "c"]
    assert "100%" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_views_are_named_in_every_file(run: Run, ckpt: Path, pictures: Path) -> None:
    for suffix in ("csv", "jsonl"):
        flags = ("--tta", "flip_translate", "--output", f"out.{suffix}")
        _, out, _ = run("predict", "--ckpt", str(ckpt), "--images", "phötos", *flags)
        assert "32-true on cpu, TTA flip_translate" in out
        assert {row["tta"] for row in read(f"out.{suffix}")} == {"flip_translate"}


def test_the_sheet(run: Run, ckpt: Path, pictures: Path) -> None:
    (pictures / "text.png").write_text("no picture")
    exit_code, out, _ = run("predict", "--ckpt", str(ckpt), "--images", "phötos", "--sheet", "sheet.png")
    assert exit_code == 6
    assert "written  sheet.png" in out
    with Image.open("sheet.png") as sheet:
        colours = {colour for _, colour in sheet.getcolors(2**24)}
    assert (254, 0, 0) in colours  # the red JPEG as it was decoded
    assert run("predict", "--ckpt", str(ckpt), "--split", "test", "--sheet", "test.png")[0] == 0
    with Image.open("test.png") as sheet:
        assert "#b3261e" in {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in sheet.getcolors(2**24)}  # a wrong verdict


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS takes no file name that is not UTF-8")
def test_names_of_any_bytes(run: Run, ckpt: Path) -> None:
    strange = os.fsdecode(b"a\xff\n\x1b[31mb.png")
    Image.new("RGB", (9, 9)).save(strange)
    for suffix in ("csv", "json", "jsonl"):
        flags = ("--output", f"out.{suffix}", "--sheet", "s.png")
        exit_code, out, err = run("predict", "--ckpt", str(ckpt), "--images", strange, *flags)
        assert exit_code == 0, err
        assert "a\\udcff\\n\\x1b[31mb.png" in out
        assert "\x1b" not in out
    assert read("out.jsonl")[0]["file"] == strange


@pytest.mark.parametrize(("flags", "exit_code", "text"), [
    ([], 2, "give either files or folders, or --split test"),
    (["--images", "a.png", "--split", "test"], 2, "give either files or folders"),
    (["--split", "train"], 2, "invalid choice: 'train'"),
    (["--imags", "a.png"], 2, "unknown argument --imags, did you mean '--images'?"),
    (["--split", "test", "a.png"], 2, "give either files or folders"),
    (["--images", "phötos", "--top-k", "0"], 2, "--top-k must be from 1 to 10, got 0"),
    (["--images", "phötos", "--top-k", "many"], 2, "invalid int value: 'many'"),
    (["--images", "phötos", "--tta", "flip_shift"], 2, "invalid choice: 'flip_shift'"),
    (["--images", "phötos", "--output", "a.xlsx"], 2, "give one of .csv, .json, .jsonl"),
    (["--images", "phötos", "--sheet", "a.jpg"], 2, "give a name that ends in .png"),
    (["--images", "phötos", "--sheet", "phötos/a b.png"], 2, "is one of the images, and would be replaced"),
    (["--images", "phötos", "--output", "nowhere/a.csv"], 6, "there is no folder nowhere"),
    (["--images", "phötos", "--data.root", "x"], 2, "--data.root belongs to --split test"),
    (["--images", "phötos", "--trainer.precision", "8"], 2, "give --trainer.precision 32-true"),
    (["--split", "test", "--data.root", "nowhere"], 3, "nowhere"),
])  # fmt: skip
def test_bad_input(run: Run, ckpt: Path, pictures: Path, flags: list[str], exit_code: int, text: str) -> None:
    before = digests(Path())
    code, out, err = run("predict", "--ckpt", str(ckpt), *flags)
    assert (code, err.count("\n")) == (exit_code, 1), err
    assert text in err
    assert err.startswith("error: ")
    assert digests(Path()) == before
    assert "Traceback" not in out + err


def test_records_to_a_pipe(run: Run, ckpt: Path, pictures: Path) -> None:
    (pictures / "z.png").write_bytes(b"broken")
    exit_code, out, err = run("predict", "phötos", "--ckpt", str(ckpt), "--output", "-")
    records = [json.loads(line) for line in out.splitlines()]  # nothing else is there
    assert exit_code == 6
    assert [Path(record["file"]).parts[0] for record in records] == ["phötos"] * len(records)
    assert {"class", "error"} <= {key for record in records for key in record}
    assert "weights  " in err
    assert not Path("-").exists()


@pytest.mark.parametrize("verb", [
    ["predict", "--split", "test"],
    ["export", "--format", "torch"],
    pytest.param(["demo"], marks=pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio")),
])  # fmt: skip
def test_never_random_weights(run: Run, verb: list[str]) -> None:
    write_checkpoint(Path("lightning_logs/tiny/run/checkpoints/last.ckpt"))
    Path("lightning_logs/tiny/run/run.json").write_text('{"started_at": "2030-01-02T03:04:05+00:00"}')
    exit_code, _, err = run(*verb)
    assert (exit_code, err.count("\n")) == (2, 1)
    assert "give --ckpt with a path, best, last or pretrained" in err
    shutil.rmtree("lightning_logs")
    Path("x.ckpt").write_bytes(b"garbage")
    for flags in (
        ["--ckpt"],
        ["--ckpt", "best"],
        ["--ckpt", "no.ckpt"],
        ["--ckpt=https://host/a.ckpt"],
        ["--ckpt=x.ckpt"],
    ):
        exit_code, out, err = run(*verb, *flags)
        assert (exit_code, err.count("\n"), out) == (4, 1, "")


def test_a_class_from_elsewhere(run: Run, pictures: Path) -> None:
    from plain_net import PlainNet

    path = write_checkpoint(Path("p.ckpt"), PlainNet(), class_path="plain_net.PlainNet", init_args={})
    exit_code, _, err = run("predict", "--ckpt", str(path), "--images", "phötos")
    assert exit_code == 4
    assert "if you trust it, add --model.net plain_net.PlainNet" in err
    assert run("predict", "--ckpt", str(path), "--model.net", "plain_net.PlainNet", "--images", "phötos")[0] == 0


def test_more_pictures_than_a_batch_and_a_queue_keep_their_order(
    run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_lightning.inference.inputs.CHUNK", 3)
    Path("many").mkdir()
    for index in range(17):
        Image.new("RGB", (32, 32), (15 * index, 255 - 15 * index, 99)).save(f"many/{index:02}.png")
    Path("many/05.png").write_bytes(b"broken")
    assert run("predict", "--ckpt", str(ckpt), "--images", "many", "--output", "a.jsonl", "--top-k", "10")[0] == 6
    lines = read("a.jsonl")
    predictor = Predictor.load(ckpt)
    for index, line in enumerate(lines):
        assert line["file"] == f"many/{index:02}.png"
        if index != 5:
            (expected,) = predictor(Path(line["file"]))
            assert line["class"] == expected.class_name
            assert line["probability"] == pytest.approx(expected.probability, rel=1e-4)
    assert "error" in lines[5]


def test_the_real_test_set_as_files(real_root: str, tmp_path: Path, ckpt: Path) -> None:
    """Beside the tiny set above: 1,000 real pictures, exactly the same probabilities."""
    from cifar_lightning.inference.inputs import read_all

    predictor = Predictor.load(ckpt)
    images, _ = official_test(predictor.trained, real_root)
    files = [tmp_path / f"{index}.png" for index in range(1000)]
    for file, image in zip(files, images.numpy(), strict=False):
        Image.fromarray(image).save(file, compress_level=1)
    assert all((pixels == image).all() for pixels, image in zip(read_all(files), images.numpy(), strict=False))
