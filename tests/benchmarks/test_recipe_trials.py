"""The benchmark `trials`: what it keeps of a try, and its verdict."""

import json
from pathlib import Path

import pytest

from benchmarks import trials
from cifar_lightning.errors import ConfigError

RECIPE = Path(__file__).parents[2] / "configs" / "speed" / "cpu78.yaml"


def fake_fit(config: Path, seed: int, logs: Path, *flags: str) -> Path:
    assert "--final_test=false" in flags
    assert "--data.val_size=5000" in flags
    folder = logs / "cpu78" / f"run-s{seed}"
    folder.mkdir(parents=True)
    record = {"recipe": "cpu78", "seed": seed, "status": "finished", "commit": "a" * 40, "dirty": False}
    record |= {"versions": {"torch": "2"}, "hardware": {"threads": 2}}
    (folder / "run.json").write_text(json.dumps(record | {"timings": {"train_s": 10.0 + seed}, "precision": "32-true"}))
    score = {"accuracy": 0.9, "tta": {"accuracy": 0.92 + 0.01 * seed}}
    (folder / "validate.json").write_text(json.dumps(score))
    return folder


@pytest.fixture(autouse=True)
def no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    monkeypatch.setattr(trials, "fit", fake_fit)
    monkeypatch.setattr(trials, "require_commit", lambda: None)
    monkeypatch.setattr(trials.subprocess, "run", lambda *arguments, **options: None)


def test_a_try_and_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["half", "--config", str(RECIPE), "--seeds", "3"]
    assert trials.main([*flags, "--", "--trainer.max_epochs=1"]) == 0
    assert trials.main(["half", "--config", str(RECIPE), "--verdict", "not kept: slow"]) == 0
    entry = json.loads(trials.OUTPUT.read_text())["cpu78"]["half"]
    assert entry["val_accuracy_tta"]["mean"] == pytest.approx(0.93)
    assert entry["median_train_s"] == 11
    assert entry["verdict"] == "not kept: slow"
    assert "half: 93.00% (n = 3), 11 s" in capsys.readouterr().out
    whole = trials.flops.recipe(RECIPE)["train"]
    assert entry["train_flop"] == pytest.approx(whole / 2, rel=0.01)
    with pytest.raises(SystemExit):
        trials.main(["another", "--config", str(RECIPE), "--verdict", "kept"])


def test_runs_of_several_commits_are_no_try(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_fit(RECIPE, 0, Path("logs/half-0"), *trials.VALIDATED)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"commit": "b" * 40}))
    with pytest.raises(ConfigError, match="of several commits"):
        trials.tried("half", RECIPE, [], 2, Path("logs"))
