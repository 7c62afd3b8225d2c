"""Temperatures: fitted, stored beside the weights they belong to, used by predict; the reliability diagram."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from data.official_format import CLASSES
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from cifar_lightning.classifier import Classifier
from cifar_lightning.errors import CheckpointError
from cifar_lightning.metrics import CALIBRATION_BINS, reliability
from cifar_lightning.runs import calibration, checkpoint, figures

Run = Callable[..., tuple[int, str, str]]
Fit = Callable[..., tuple[Path, str]]


def drawn(temperature: float, count: int = 20_000) -> tuple[Tensor, Tensor]:
    """Logits that are `temperature` times too large for the labels that are drawn by them."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 10, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_the_temperature_is_found(temperature: float) -> None:
    assert calibration.fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_is_better() -> None:
    logits, labels = drawn(1.7, 500)
    found = calibration.fit_temperature(logits, labels)

    def loss(value: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.double() / value, labels))

    assert all(loss(found) <= loss(found * factor) for factor in (0.5, 0.99, 1.01, 2.0))


def test_where_there_is_no_best_it_stays_within_bounds() -> None:
    logits, labels = drawn(1.0, 500)
    right = logits.scatter(1, labels[:, None], logits.amax(1, keepdim=True) + 1)  # all right: the colder the better
    assert calibration.fit_temperature(right, labels) == pytest.approx(calibration.LOWEST, rel=1e-4)
    assert calibration.fit_temperature(-right, labels) == pytest.approx(calibration.HIGHEST, rel=1e-4)


def test_a_fit_says_what_it_did() -> None:
    fit = calibration.fit(*drawn(3.0, 5000), CLASSES)
    assert fit["loss_after"] < fit["loss_before"]
    assert fit["calibration_error_after"] < 0.03 < fit["calibration_error_before"]


def test_the_mean_gap_of_the_bins_is_the_calibration_error() -> None:
    logits, labels = drawn(2.0, 3000)
    bins = reliability(logits, labels)
    assert sum(its.images for its in bins) == 3000
    assert [its.confidence for its in bins] == sorted(its.confidence for its in bins)
    gap = sum(its.images * abs(its.confidence - its.accuracy) for its in bins) / 3000
    expected = multiclass_calibration_error(logits.softmax(1), labels, 10, n_bins=CALIBRATION_BINS)
    assert gap == pytest.approx(float(expected), abs=1e-6)


def test_a_sure_verdict_is_in_the_last_bin() -> None:
    (only,) = reliability(torch.tensor([[1000.0, 0.0]]), torch.tensor([0]))
    assert only == (1.0, 1.0, 1)


def test_a_temperature_belongs_to_these_very_weights(tmp_path: Path) -> None:
    ckpt = tmp_path / "last.ckpt"
    ckpt.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    path = calibration.store(ckpt, sha256, {"none": {"temperature": 1.5}}, "somewhere")
    assert path.name == f"last.temperature-{sha256[:12]}.json"
    assert calibration.stored(ckpt, sha256, "none") == 1.5
    assert calibration.stored(ckpt, sha256, "flip") is None
    calibration.store(ckpt, sha256, {"flip": {"temperature": 1.25}}, "somewhere")
    assert [calibration.stored(ckpt, sha256, view) for view in ("none", "flip")] == [1.5, 1.25]
    ckpt.write_bytes(b"weights that were trained further")
    other = hashlib.sha256(ckpt.read_bytes()).hexdigest()
    assert calibration.stored(ckpt, other, "none") is None
    assert calibration.stale(ckpt, other) == [path]
    calibration.store(ckpt, other, {"none": {"temperature": 2.0}}, "somewhere")
    assert not path.exists()
    assert not calibration.stale(ckpt, other)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"fits": {}}', '{"sha256": "a", "fits": {"none": {"temperature": 0}}}']
)
def test_a_damaged_file_is_refused(content: str, tmp_path: Path) -> None:
    ckpt = tmp_path / "last.ckpt"
    ckpt.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    calibration.path_for(ckpt, sha256).write_text(content)
    with pytest.raises(CheckpointError, match="is damaged; remove it, and fit anew with test --calibrate"):
        calibration.stored(ckpt, sha256, "none")


def test_calibrate_stores_a_temperature_that_predict_uses(fit: Fit, run: Run) -> None:
    folder, _ = fit()
    exit_code, out, err = run("test", "--ckpt", "last", "--calibrate", "--tta", "flip")
    assert exit_code == 0, err
    (path,) = (folder / "checkpoints").glob("*.json")
    stored = json.loads(path.read_text())
    assert stored["fitted_on"] == "the validation split, 20 images, CIFAR-10"
    assert set(stored["fits"]) == {"none", "flip"}
    result = json.loads((folder / "test.json").read_text())
    for section, view in ((result, "none"), (result["tta"], "flip")):
        assert section["calibrated"]["temperature"] == stored["fits"][view]["temperature"]
        assert section["calibrated"]["loss"] != section["loss"]
    temperature = result["calibrated"]["temperature"]
    assert f"temperature {temperature:.3f}, fitted on the validation split" in out
    assert (folder / "test_reliability.png").is_file()
    for view in ("none", "flip"):
        _, out, _ = run("predict", "--ckpt", "--split", "test", "--tta", view, "--output", "a.jsonl")
        used = stored["fits"][view]["temperature"]
        assert f"calibrated, temperature {used:.3f}" in out
        assert json.loads(Path("a.jsonl").read_text().splitlines()[0])["temperature"] == used
    _, out, _ = run("predict", "--ckpt", "--split", "test", "--tta", "flip_translate")
    assert "TTA flip_translate, not calibrated" in out


def test_weights_that_trained_further_are_not_calibrated(fit: Fit, run: Run) -> None:
    folder, _ = fit()
    assert run("validate", "--ckpt", "last", "--calibrate")[0] == 0
    assert "calibrated" in json.loads((folder / "validate.json").read_text())
    assert run("fit", "--ckpt", "last", "--trainer.max_epochs=3")[0] == 0
    _, out, _ = run("predict", "--ckpt", "--split", "test")
    assert "not calibrated, last.temperature-" in out
    assert "belongs to other weights" in out


def test_weights_that_are_replaced_meanwhile_get_no_temperature(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = fit()
    last = folder / "checkpoints" / "last.ckpt"
    monkeypatch.setattr(Classifier, "on_test_start", lambda self: checkpoint.write(checkpoint.load(last).content, last))
    exit_code, _, err = run("test", "--ckpt", "last", "--calibrate")
    assert exit_code == 4
    assert "was replaced while it was scored" in err
    assert not list(last.parent.glob("*.json"))


def test_without_a_validation_split_there_is_nothing_to_fit_on(fit: Fit, run: Run) -> None:
    folder, _ = fit("--data.val_size=0")
    before = sorted(folder.rglob("*"))
    exit_code, out, err = run("test", "--ckpt", "last", "--calibrate")
    assert (exit_code, err.count("\n"), out) == (2, 1, "")
    assert "without a validation split (data.val_size 0): a temperature cannot be fitted" in err
    assert sorted(folder.rglob("*")) == before


def test_the_diagram_shows_every_bin() -> None:
    bins = reliability(*drawn(2.0, 1000))
    figure = figures.reliability({"before": bins, "after": bins[:3]}, "title")
    assert len(figure.axes) == 4
    for axes, expected in zip(figure.axes[:2], (bins, bins[:3]), strict=True):
        (_, line) = axes.lines
        assert list(line.get_xdata()) == [its.confidence for its in expected]
        assert list(line.get_ydata()) == [its.accuracy for its in expected]
    assert not math.isnan(figure.axes[0].get_xlim()[0])
