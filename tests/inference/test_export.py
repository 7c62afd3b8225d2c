"""The verb `export`: the files, what they hold, and what happens to one that is wrong."""

import contextlib
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data.official_format import CLASSES
from PIL import Image

from cifar_lightning.data.sample import load_sample
from cifar_lightning.inference import Predictor, export
from cifar_lightning.runs import calibration

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["onnx", "torch"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each format; ONNX only where its packages are."""
    if request.param == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason=f"needs {package}: pip install -e '.[export]'")
    return request.param


def test_a_file_that_gives_what_the_net_gives(run: Run, ckpt: Path, kind: str) -> None:
    temperature = 1.75
    sha256 = hashlib.sha256(ckpt.read_bytes()).hexdigest()
    calibration.store(ckpt, sha256, {"none": {"temperature": temperature}}, "a test")
    target = Path(f"tiny-tiny{export.SUFFIXES[kind]}")  # recipe and checkpoint: it lies outside of a run
    exit_code, out, err = run("export", "--ckpt", str(ckpt), "--format", kind)
    assert (exit_code, err) == (0, ""), err
    assert "the same predicted classes: 1,000 test images of the sample in the package" in out
    assert f"written  {target} (" in out
    assert f"calibrated, temperature {temperature:.3f}" in out
    assert [path.name for path in Path().iterdir()] == [target.name]
    run_file, metadata = export.load_exported(kind, target.read_bytes())
    assert json.loads(metadata["class_names"]) == list(CLASSES)
    assert metadata["recipe"] == "tiny"
    assert metadata["seed"] == "7"
    assert metadata["checkpoint_sha256"] == sha256
    assert float(metadata["temperature"]) == temperature
    predictor = Predictor.load(ckpt)
    images = torch.from_numpy(load_sample(train=False).images)
    for batch in (images[:1], images[:2], images[:50]):
        torch.testing.assert_close(run_file(batch), predictor.probabilities(batch), rtol=0, atol=1e-5)
    # Neither the exporting machine's source files nor its folders.
    content = target.read_bytes()
    assert str(Path(export.__file__).parent).encode() not in content
    assert str(ckpt.parent).encode() not in content


def test_the_onnx_file_names_its_batch_axis(run: Run, ckpt: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install -e '.[export]'")
    assert run("export", "--ckpt", str(ckpt), "--format", "onnx")[0] == 0
    graph = onnx.load("tiny-tiny.onnx").graph
    shapes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in
              (*graph.input, *graph.output)]  # fmt: skip
    assert shapes == [["batch", 32, 32, 3], ["batch", 10]]


def test_a_run_s_file_is_called_after_it(run: Run, ckpt: Path) -> None:
    folder = Path("logs/tiny/2030-01-02_03-04-05-s7")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    ckpt.rename(folder / "checkpoints" / "best.ckpt")
    assert run("export", "--ckpt", str(folder / "checkpoints" / "best.ckpt"), "--format", "torch")[0] == 0
    assert Path("tiny-2030-01-02_03-04-05-s7-best.pt2").is_file()


@pytest.mark.parametrize("package", ["onnxruntime", "torch"])
def test_the_docs_show_how_to_use_a_file(package: str, run: Run, ckpt: Path) -> None:
    pytest.importorskip(package, reason=f"needs {package}: pip install -e '.[export]'")
    text = (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"import {package}\n" in block)
    assert len([line for line in code.splitlines() if line]) == 6
    Image.new("RGB", (80, 60), "red").save("cat.png")
    (name,) = re.findall(r'"(cpu94-pretrained\.\w+)"', code)
    kind = next(kind for kind, suffix in export.SUFFIXES.items() if name.endswith(suffix))
    assert run("export", "--ckpt", str(ckpt), "--format", kind, "--output", name)[0] == 0
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    numbers = [float(number) for number in re.findall(r"\d\.\d+(?:e-\d+)?", printed.getvalue())]
    assert len(numbers) == len(CLASSES)
    assert sum(numbers) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("spoil", "text"), [
    (lambda probabilities: probabilities + 2e-4, "differs from the net by 2.0e-04 (1e-04 is allowed) and in 0 "),
    (lambda probabilities: probabilities.roll(1, dims=1), "(1e-04 is allowed) and in 1000 predicted classes"),
])  # fmt: skip
def test_a_file_that_is_wrong_gets_no_name(
    spoil: Run, text: str, run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tiny-tiny.pt2").write_text("an older file")
    real = export.load_exported

    def wrong(kind: str, content: bytes) -> Any:
        run_file, metadata = real(kind, content)
        return (lambda images: spoil(run_file(images))), metadata

    monkeypatch.setattr(export, "load_exported", wrong)
    exit_code, _, err = run("export", "--ckpt", str(ckpt), "--format", "torch")
    assert (exit_code, err.count("\n")) == (6, 1)
    assert text in err
    assert Path("tiny-tiny.pt2").read_text() == "an older file"
    assert len(list(Path().iterdir())) == 1


def test_a_net_that_cannot_be_exported(run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbles(*arguments: Any) -> bytes:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(export, "export_net", stumbles)
    exit_code, _, err = run("export", "--ckpt", str(ckpt), "--format", "torch")
    assert (exit_code, err.count("\n")) == (4, 1)
    assert "its net cannot be written as torch: no such operator" in err
    assert not list(Path().iterdir())


def test_without_the_extra(run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    exit_code, _, err = run("export", "--ckpt", str(ckpt), "--format", "onnx")
    assert (exit_code, err.count("\n")) == (2, 1)
    assert "install the extra with pip install -e '.[export]'" in err


@pytest.mark.parametrize(("flags", "exit_code", "text"), [
    ([], 2, "required: --format"),
    (["--format", "tflite"], 2, "invalid choice: 'tflite'"),
    (["--format", "torch", "--output", "no/a.pt2"], 6, "there is no such folder"),
    (["--format", "torch", "--output", "."], 6, "it is a folder"),
])  # fmt: skip
def test_bad_input(run: Run, ckpt: Path, flags: list[str], exit_code: int, text: str) -> None:
    code, _, err = run("export", "--ckpt", str(ckpt), *flags)
    assert (code, err.count("\n")) == (exit_code, 1), err
    assert text in err
    assert not list(Path().iterdir())
