"""What the README promises."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cifar_lightning import cli

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")


PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_a_new_net_takes_one_file(tmp_path: Path) -> None:
    (code,) = (block for block in PYTHON if "class SmallNet" in block)
    shutil.copytree(
        PROJECT / "cifar_lightning", tmp_path / "cifar_lightning", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "cifar_lightning" / "nets" / "small_net.py").write_text(code)
    command = [
        sys.executable, "-m", "cifar_lightning", "fit", "--model.net", "SmallNet", "--model.net.width", "64",
        "--data.source=sample", "--trainer.max_epochs=1", "--trainer.limit_train_batches=3",
        "--trainer.limit_val_batches=1", "--final_test=false",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"output +Linear +10 +10,250", done.stdout)  # 16 * 64 * 10 + 10
    command = [sys.executable, "-m", "cifar_lightning", "fit", "--model.net.help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "\n  SmallNet\n" in done.stdout


def test_a_trained_model_takes_five_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (block for block in PYTHON if "Predictor" in block)
    assert len([line for line in code.splitlines() if line]) == 5
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (80, 60), "red").save("cat.png")
    Image.new("RGB", (60, 80), "blue").save("ship.jpg")
    exec(code, {})
    assert re.fullmatch(r"(\w+ [01]\.\d+(e-\d+)? \[(\('\w+', [\d.e-]+\)(, )?){3}\]\n){2}", capsys.readouterr().out)


def test_every_verb_has_its_line() -> None:
    commands = (PROJECT / "docs" / "use.md").read_text(encoding="utf-8")
    for verb in cli.VERBS:
        assert re.search(rf"`?(python -m cifar_lightning|\.\.\.) {verb}\b", commands), verb


DOCUMENTS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    rooms = "config|data|inference|nets|optim|runs|study|training"
    for name in re.findall(rf"`((?:{rooms})/[\w/.]*|\w+\.py)`", text):
        places = [PROJECT / "cifar_lightning" / name, PROJECT / name]
        assert any(place.exists() for place in places), name
    for link in re.findall(r"\]\(([\w/.-]+)\)", text):
        assert (document.parent / link).exists(), link
    for name in re.findall(r"(?:configs|benchmarks|tests)/[\w/]+\.(?:yaml|py)", text):
        assert (PROJECT / name).is_file(), name


def test_what_the_readme_shows_of_a_run_was_recorded() -> None:
    (recorded,) = (PROJECT / "results" / "runs" / "default").glob("*.json")
    content = json.loads(recorded.read_text(encoding="utf-8"))
    for number in (1, 2, 30):
        row, times = content["epochs"][number - 1], content["timings"][number - 1]
        line = f"epoch {number:>3}/30  train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.2%}  "
        line += f"val loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.2%}  "
        assert line + f"{times['images_per_second']:,.0f} images/s" in README
    test = content["run"]["metrics"]["test"]
    assert f"test    accuracy {test['accuracy']:.2%}  loss {test['loss']:.4f}" in README
    assert f"lightning_logs/default/{recorded.stem}" in README


def test_the_readme_is_for_two_minutes() -> None:
    assert len(README.splitlines()) <= 170
    assert len(DOCUMENTS) >= 9
    for document in DOCUMENTS[2:]:
        assert f"docs/{document.name}" in README, f"the README does not lead to {document.name}"


def test_what_it_says_of_bf16_is_what_was_measured() -> None:
    recorded = json.loads((PROJECT / "results" / "precision.json").read_text(encoding="utf-8"))
    mean, low, high = (100 * recorded["difference"][name] for name in ("mean", "low", "high"))
    said = f"{mean:+.2f} points, 95% interval {low:+.2f} to {high:+.2f}: {recorded['verdict']}"
    assert recorded["n"] == 10
    assert said in (PROJECT / "docs" / "speed.md").read_text(encoding="utf-8")


def read_result(name: str) -> Any:
    return json.loads((PROJECT / "results" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("recipe", "figure"), [("cpu78", ""), ("cpu90", "_tta"), ("cpu94", "_tta")])
def test_a_speed_recipe_expects_what_was_measured(recipe: str, figure: str) -> None:
    speed = read_result(f"speed_{recipe}.json")
    assert speed["dirty"] is False
    assert [run["seed"] for run in speed["runs"]] == list(range(speed["n"]))
    accuracy, total_s = speed[f"test_accuracy{figure}"], speed["median_s"][f"total{figure}_s"]
    said = f"# Expected: {accuracy['mean']:.2%} ± {100 * accuracy['sd']:.2f} of the test images (n = {speed['n']}"
    header = (PROJECT / "configs" / "speed" / f"{recipe}.yaml").read_text(encoding="utf-8")
    assert said in header
    assert f" in {total_s:,.0f} s " in " ".join(header.split("\n# "))


def test_each_run_of_a_speed_recipe_is_recorded() -> None:
    speed = read_result("speed_cpu94.json")
    recorded = [
        json.loads(path.read_text(encoding="utf-8")) for path in (PROJECT / "results/runs/cpu94").glob("*.json")
    ]
    accuracies = {run["run"]["seed"]: run["run"]["metrics"]["test_tta"]["accuracy"] for run in recorded}
    assert accuracies == {run["seed"]: run["test_accuracy_tta"] for run in speed["runs"]}
