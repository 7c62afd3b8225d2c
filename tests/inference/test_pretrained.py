"""The trained weights in the package: `--ckpt pretrained` and their card."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from cifar_lightning.data.sample import load_sample
from cifar_lightning.errors import CheckpointError
from cifar_lightning.inference import Predictor
from cifar_lightning.runs import checkpoint
from cifar_lightning.runs.checkpoint import PRETRAINED

Run = Callable[..., tuple[int, str, str]]

CARD = json.loads(PRETRAINED.with_suffix(".json").read_text(encoding="utf-8"))


def test_the_card_says_where_they_come_from() -> None:
    assert checkpoint.load(PRETRAINED).sha256 == CARD["sha256"]
    assert (CARD["identity"]["recipe"], CARD["identity"]["seed"]) == ("cpu94", 0)
    text = PRETRAINED.with_name("CARD.md").read_text(encoding="utf-8")
    for said in (
        f"{CARD['test']['accuracy']:.2%}", f"{CARD['test']['tta_accuracy']:.2%}", CARD["commit"], CARD["sha256"],
        CARD["versions"]["torch"], f"{CARD['parameters']:,} parameters", f"{PRETRAINED.stat().st_size:,} bytes",
    ):  # fmt: skip
        assert said in text, said


def test_they_classify_the_sample_as_well_as_the_card_says() -> None:
    sample = load_sample(train=False)
    predictor = Predictor.pretrained()
    predictions = list(predictor.predictions(torch.from_numpy(sample.images[:300])))
    right = [one.class_index == label for one, label in zip(predictions, sample.labels, strict=False)]
    # 300 of the 10,000 test images: below 0.87 would be six deviations away from the card.
    assert sum(right) / len(right) > CARD["test"]["accuracy"] - 0.06
    assert predictor.temperature == CARD["temperatures"]["none"]


@pytest.mark.slow
def test_the_verb_repeats_the_card(real_root: str, tmp_path: Path) -> None:
    # Without its test-time augmentation, which takes a minute more.
    flags = ["--ckpt", "pretrained", "--data.root", real_root, "--model.tta.views", "none"]
    command = [sys.executable, "-m", "cifar_lightning", "test", *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "lightning_logs/pretrained/test.json").read_text())
    # Other processors add in another order: a few images at the edge between two classes may change sides.
    assert result["accuracy"] == pytest.approx(CARD["test"]["accuracy"], abs=5e-4)
    assert result["loss"] == pytest.approx(CARD["test"]["loss"], abs=1e-4)


def test_without_a_run_predict_takes_them_and_says_so(run: Run) -> None:
    Image.new("RGB", (80, 60), "red").save("cat.png")
    exit_code, out, err = run("predict", "cat.png")
    assert exit_code == 0
    assert "no run in lightning_logs: these are the weights in the package" in err
    assert "(cpu94, seed 0, CIFAR-10, 8 epochs)" in out
    assert "calibrated, temperature" in out


def test_no_training_goes_on_from_them(run: Run) -> None:
    exit_code, _, err = run("fit", "--ckpt", "pretrained")
    assert (exit_code, err.count("\n")) == (4, 1)
    assert "holds weights alone" in err


@pytest.mark.parametrize("spoil", ["flip", "cut", "no card", "wrong card"])
def test_damaged_weights_are_refused(spoil: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    content = bytearray(PRETRAINED.read_bytes())
    content[-1000] ^= 1 if spoil == "flip" else 0
    copy.write_bytes(content[: -1000 if spoil == "cut" else None])
    if spoil != "no card":
        copy.with_suffix(".json").write_text("[]" if spoil == "wrong card" else json.dumps(CARD))
    with pytest.raises(CheckpointError, match=r"damaged|cannot be read|not readable"):
        checkpoint.load(copy)
