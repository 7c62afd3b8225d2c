"""What benchmarks/speed.py, ablation.py and flops.py compute from finished runs and nets."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_scripts import load
from torch import nn

from cifar_lightning.classifier import Classifier


def record(seed: int, accuracy: float, train_s: float, tta: float | None = None) -> dict[str, Any]:
    metrics: dict[str, Any] = {"test": {"accuracy": accuracy}}
    speed = {"train_s": train_s, "evaluation_s": 1.0, "total_s": train_s + 1}
    if tta is not None:
        metrics["test_tta"] = {"accuracy": tta, "views": "flip"}
        speed |= {"evaluation_tta_s": 2.0, "total_tta_s": train_s + 2}
    return {"seed": seed, "metrics": metrics, "speed": speed}


def test_speed_sums_up_its_runs() -> None:
    records = [record(0, 0.78, 9.0, 0.79), record(1, 0.80, 11.0, 0.81), record(2, 0.79, 10.0, 0.80)]
    rivals = [
        {"name": "another", "timed": "1 of 2 epochs", "precision": precision, "total_s": seconds}
        for precision, all_seconds in (("bf16", (300.0, 330.0, 400.0)), ("float32", (600.0, 500.0, 660.0)))
        for seconds in all_seconds
    ]
    result = load("speed").summarise(records, rivals)
    assert result["n"] == 3
    assert result["test_accuracy"]["mean"] == pytest.approx(0.79)
    assert result["test_accuracy"]["sd"] == pytest.approx(0.01)
    # t of 2 degrees of freedom at 97.5% is 4.3027.
    assert result["test_accuracy"]["low"] == pytest.approx(0.79 - 4.3027 * 0.01 / 3**0.5, abs=1e-5)
    assert result["test_accuracy_tta"]["mean"] == pytest.approx(0.80)
    assert result["tta"] == "flip"
    assert result["median_s"] == {
        "train_s": 10.0, "evaluation_s": 1.0, "total_s": 11.0, "evaluation_tta_s": 2.0, "total_tta_s": 12.0,
    }  # fmt: skip
    assert result["rival"]["median_s"] == {"bf16": 330.0, "float32": 600.0}
    assert result["rival_over_recipe"] == pytest.approx({"bf16": 30.0, "float32": 600 / 11})
    assert result["rival_over_recipe_tta"] == pytest.approx({"bf16": 27.5, "float32": 50.0})
    assert [run["test_accuracy"] for run in result["runs"]] == [0.78, 0.80, 0.79]


def test_the_rival_is_timed_before_after_and_in_between() -> None:
    turns = load("speed").rival_turns
    assert turns(10, 3) == [0, 5, 10]
    assert turns(5, 2) == [0, 5]
    assert turns(2, 9) == [0, 1, 2]


def test_speed_without_tta_has_no_figures_of_it() -> None:
    result = load("speed").summarise(
        [record(0, 0.78, 9.0), record(1, 0.80, 11.0)],
        [{"name": "another", "timed": "all", "precision": "bf16", "total_s": 30.0}],
    )
    assert "test_accuracy_tta" not in result
    without_rival = load("speed").summarise([record(0, 0.78, 9.0), record(1, 0.80, 11.0)], [])
    assert "rival" not in without_rival
    assert without_rival["test_accuracy"] == result["test_accuracy"]
    assert result["median_s"].keys() == {"train_s", "evaluation_s", "total_s"}


def test_the_ablation_compares_by_seed() -> None:
    ablation = load("ablation")
    table = ablation.compare({ablation.WHOLE: [0.80, 0.78, 0.82], "no flip": [0.79, 0.77, 0.80]})
    assert "difference" not in table[ablation.WHOLE]
    difference = table["no flip"]["difference"]
    assert difference["mean"] == pytest.approx(-0.04 / 3)
    deviation = (2 * (1 / 300) ** 2 + (2 / 300) ** 2) ** 0.5 / 2**0.5
    assert difference["high"] == pytest.approx(-0.04 / 3 + 4.3027 * deviation / 3**0.5, abs=1e-5)
    assert table["no flip"]["mean"] == pytest.approx(2.36 / 3)


@pytest.mark.parametrize("recipe", ["cpu78", "cpu94"])
def test_every_variant_of_the_ablation_is_a_setting_of_the_recipe(recipe: str) -> None:
    ablation = load("ablation")
    from cifar_lightning.config.parser import Experiment

    whole = ablation.ABLATIONS[recipe]
    config = str(Path(__file__).parents[1] / whole.config)
    resolved = {
        name: Experiment("fit", ["--config", config, "--trainer.accelerator=cpu", *whole.flags, *flags]).resolved()
        for name, flags in whole.variants.items()
    }
    for name, settings in resolved.items():
        assert (settings == resolved[ablation.WHOLE]) == (name == ablation.WHOLE), name


class OneConvolution(nn.Module):
    """A convolution of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 10, 32)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images (N, 3, 32, 32) to logits (N, 10)."""
        return self.convolution(images).flatten(1)


def test_flops_of_a_net_that_can_be_counted_by_hand() -> None:
    counted = load("flops").count(Classifier(OneConvolution()), batch_size=4)
    per_image = 2 * 3 * 32 * 32 * 10
    # The images need no gradient: forward and the gradient of the weights.
    assert counted == {"start": 0.0, "step": 4 * 2 * per_image, "evaluation_per_image": per_image}


def test_flops_of_a_recipe_count_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    row = load("flops").recipe(Path("configs/speed/gpu94.yaml"))
    assert row["steps"] == 200
    assert row["total"] == pytest.approx(row["start"] + 200 * row["step"] + 10_000 * row["evaluation_per_image"])
    assert row["start"] > 0


@pytest.mark.parametrize(
    ("rival", "tta", "said"),
    [
        ({}, 0.79, "300 s, 27 times as long |"),
        ({"evaluation_s": 9.0}, 0.79, "300 s, 25 times as long as with TTA |"),
        ({"evaluation_s": 9.0}, None, "300 s, 27 times as long |"),
        ({"total_s": 30.0}, None, "30 s, 2.73 times as long |"),
    ],
)
def test_the_table_says_which_time_a_rival_is_compared_with(
    tmp_path: Path, rival: dict[str, Any], tta: float | None, said: str
) -> None:
    rounds = [
        {"name": "another", "timed": "all", "precision": precision, "total_s": 300.0, **rival}
        for precision in ("bf16", "float32")
    ]
    result = load("speed").summarise([record(0, 0.78, 10.0, tta), record(1, 0.80, 10.0, tta and tta + 0.01)], rounds)
    result |= {"hardware": {"threads": 2, "cpu": "a CPU"}, "precision": "32-true"}
    (tmp_path / "speed_x.json").write_text(json.dumps(result))
    (tmp_path / "flops.json").write_text(json.dumps({"recipes": [{"config": "configs/speed/x.yaml", "total": 1e15}]}))
    assert load("tables").speed_table(tmp_path).count(said) == 2
