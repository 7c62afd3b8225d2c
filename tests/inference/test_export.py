"""The verb `export`: the files, what they hold, and what happens to one that is wrong."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data.official_format import CLASSES

from cifar_lightning.inference import Predictor, export
from cifar_lightning.inference.loading import official_test
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
    target = Path(f"tiny{export.SUFFIXES[kind]}")
    exit_code, out, err = run("export", "--ckpt", str(ckpt), "--format", kind)
    assert (exit_code, err) == (0, ""), err
    assert "the same predicted classes: 12 test images of CIFAR-10" in out
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
    images, _ = official_test(predictor.trained)
    for batch in (images[:1], images[:2], images):
        torch.testing.assert_close(run_file(batch), predictor.probabilities(batch), rtol=0, atol=1e-5)
    # Neither the exporting machine's source files nor its folders.
    content = target.read_bytes()
    assert str(Path(export.__file__).parent).encode() not in content
    assert str(ckpt.parent).encode() not in content


@pytest.mark.parametrize(("spoil", "text"), [
    (lambda probabilities: probabilities + 2e-4, "differs from the net by 2.0e-04 (1e-04 is allowed) and in 0 "),
    (lambda probabilities: probabilities.roll(1, dims=1), "(1e-04 is allowed) and in 12 predicted classes"),
])  # fmt: skip
def test_a_file_that_is_wrong_gets_no_name(
    spoil: Run, text: str, run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tiny.pt2").write_text("an older file")
    real = export.load_exported

    def wrong(kind: str, content: bytes) -> Any:
        run_file, metadata = real(kind, content)
        return (lambda images: spoil(run_file(images))), metadata

    monkeypatch.setattr(export, "load_exported", wrong)
    exit_code, _, err = run("export", "--ckpt", str(ckpt), "--format", "torch")
    assert (exit_code, err.count("\n")) == (6, 1)
    assert text in err
    assert Path("tiny.pt2").read_text() == "an older file"
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
    (["--format", "torch", "--data.root", "nowhere"], 3, "nowhere"),
])  # fmt: skip
def test_bad_input(run: Run, ckpt: Path, flags: list[str], exit_code: int, text: str) -> None:
    code, _, err = run("export", "--ckpt", str(ckpt), *flags)
    assert (code, err.count("\n")) == (exit_code, 1), err
    assert text in err
    assert not list(Path().iterdir())
