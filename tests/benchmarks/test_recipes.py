"""What speed, ablation, precision, race and flops compute from finished runs and nets."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from finished_runs import record
from torch import nn

from benchmarks import ablation, flops, precision, race, speed
from cifar_lightning.classifier import Classifier
from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError
from cifar_lightning.study.plan import resolve
from cifar_lightning.study.spec import System

PROJECT = Path(__file__).parents[2]


def test_speed_sums_up_its_runs() -> None:
    records = [record(0, 0.78, 9.0, 0.79), record(1, 0.80, 11.0, 0.81), record(2, 0.79, 10.0, 0.80)]
    rivals = [
        {"name": "another", "timed": "1 of 2 epochs", "precision": precision, "total_s": seconds}
        for precision, all_seconds in (("bf16", (300.0, 330.0, 400.0)), ("float32", (600.0, 500.0, 660.0)))
        for seconds in all_seconds
    ]
    result = speed.summarise(records, rivals)
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


def test_times_are_those_of_one_machine() -> None:
    records = [record(0, 0.78, 90.0, cpu="another"), record(1, 0.80, 11.0), record(2, 0.79, 13.0)]
    result = speed.summarise(records, [])
    assert result["n"] == 3
    assert result["median_s"]["train_s"] == 12.0
    assert [run["machine"] for run in result["runs"]] == ["2 threads of another", *["2 threads of a CPU"] * 2]


def test_recorded_runs_count_only_with_the_settings_of_today(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(PROJECT)
    recipe = PROJECT / "configs" / "speed" / "cpu94.yaml"
    assert sorted(run["seed"] for run in speed.recorded(recipe)) == [0, 1, 2, 3, 4]
    changed = tmp_path / "cpu94.yaml"
    changed.write_text(recipe.read_text().replace("batch_size: 500", "batch_size: 1000"))
    with pytest.raises(ConfigError, match=r"other settings \(data.batch_size\)"):
        speed.recorded(changed)
    assert speed.recorded(PROJECT / "configs" / "speed" / "gpu94.yaml") == []


def test_the_rival_is_timed_before_after_and_in_between() -> None:
    turns = speed.rival_turns
    assert turns(10, 3) == [0, 5, 10]
    assert turns(5, 2) == [0, 5]
    assert turns(2, 9) == [0, 1, 2]
    assert turns(5, 0) == []


def test_speed_without_tta_has_no_figures_of_it() -> None:
    result = speed.summarise(
        [record(0, 0.78, 9.0), record(1, 0.80, 11.0)],
        [{"name": "another", "timed": "all", "precision": "bf16", "total_s": 30.0}],
    )
    assert "test_accuracy_tta" not in result
    without_rival = speed.summarise([record(0, 0.78, 9.0), record(1, 0.80, 11.0)], [])
    assert "rival" not in without_rival
    assert without_rival["test_accuracy"] == result["test_accuracy"]
    assert result["median_s"].keys() == {"train_s", "evaluation_s", "total_s"}


def test_the_ablation_compares_by_seed() -> None:
    table = ablation.compare({ablation.WHOLE: [0.80, 0.78, 0.82], "no flip": [0.79, 0.77, 0.80]})
    assert "difference" not in table[ablation.WHOLE]
    difference = table["no flip"]["difference"]
    assert difference["mean"] == pytest.approx(-0.04 / 3)
    deviation = (2 * (1 / 300) ** 2 + (2 / 300) ** 2) ** 0.5 / 2**0.5
    assert difference["high"] == pytest.approx(-0.04 / 3 + 4.3027 * deviation / 3**0.5, abs=1e-5)
    assert table["no flip"]["mean"] == pytest.approx(2.36 / 3)


@pytest.mark.parametrize("recipe", list(ablation.ABLATIONS))
def test_every_variant_of_the_ablation_is_a_setting_of_the_recipe(recipe: str) -> None:
    whole = ablation.ABLATIONS[recipe]
    config = str(PROJECT / whole.config)
    resolved = {
        name: Experiment("fit", ["--config", config, "--trainer.accelerator=cpu", *flags]).resolved()
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
    counted = flops.count(Classifier(OneConvolution()), batch_size=4)
    per_image = 2 * 3 * 32 * 32 * 10
    # The images need no gradient: forward and the gradient of the weights.
    assert counted == {"start": 0.0, "step": 4 * 2 * per_image, "evaluation_per_image": per_image}


def test_flops_of_a_recipe_count_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    row = flops.recipe(Path("configs/speed/gpu94.yaml"))
    assert row["steps"] == 200
    assert row["total"] == pytest.approx(row["start"] + 200 * row["step"] + 10_000 * row["evaluation_per_image"])
    assert row["start"] > 0
    assert row["tta_at_most"] == pytest.approx(5 * 10_000 * row["evaluation_per_image"])  # six views, one counted


def test_flops_of_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    flags = ["--trainer.max_epochs=3", "--data.augment.sizes=[16, 16]"]
    whole, small = (flops.recipe(Path("configs/speed/cpu94.yaml"), flags[:number]) for number in (1, 2))
    on_16 = flops.count(Experiment("fit", ["--config", "configs/speed/cpu94.yaml"]).model, 500, side=16)["step"]
    assert small["steps"] == whole["steps"] == 300
    assert small["train"] == pytest.approx(small["start"] + 200 * on_16 + 100 * small["step"])
    assert on_16 < small["step"] / 4
    flags_of = {"trainer.max_epochs": 3, "data.augment.sizes": [16, 16]}
    system = System("small", "small", Path("configs/speed/cpu94.yaml"), flags_of)
    assert resolve(system).epoch_flop(50_000) == pytest.approx((200 * on_16 + 100 * small["step"]) / 3)


def pairs(differences: list[float]) -> list[dict[str, Any]]:
    def run(seed: int, accuracy: float) -> dict[str, Any]:
        return {"seed": seed, "metrics": {"last_epoch": {"val_accuracy": accuracy}}}

    return [
        {"bf16-mixed": run(seed, 0.7 + difference), "32-true": run(seed, 0.7)}
        for seed, difference in enumerate(differences)
    ]


def test_the_interval_is_the_paired_t_interval() -> None:
    found = precision.compare(pairs([0.01, -0.01, 0.02, 0.0, 0.01, -0.01, 0.02, 0.0]))
    deviation = math.sqrt((2 * 0.005**2 + 2 * 0.015**2 + 2 * 0.015**2 + 2 * 0.005**2) / 7)
    half = 2.3646242510102993 * deviation / math.sqrt(8)  # the 97.5% quantile of t with 7 degrees of freedom
    assert found["difference"]["mean"] == pytest.approx(0.005)
    assert found["difference"]["low"] == pytest.approx(0.005 - half)
    assert found["difference"]["high"] == pytest.approx(0.005 + half)
    assert found["mean_val_accuracy"] == {"bf16-mixed": pytest.approx(0.705), "32-true": pytest.approx(0.7)}


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(0.0, "within one point"), (0.008, "not shown"), (-0.008, "not shown"), (0.05, "not shown")],
)
def test_no_more_is_said_than_the_interval_bears(shift: float, verdict: str) -> None:
    assert precision.compare(pairs([shift + step for step in (0.004, -0.004) * 4]))["verdict"] == verdict


def test_the_recorded_comparison_follows_from_its_own_pairs() -> None:
    recorded = json.loads((PROJECT / "results" / "precision.json").read_text())
    assert recorded["dirty"] is False
    again = precision.compare(
        [
            {
                name: {"seed": pair["seed"], "metrics": {"last_epoch": {"val_accuracy": pair[name]}}}
                for name in precision.PRECISIONS
            }
            for pair in recorded["pairs"]
        ]
    )
    assert (again["n"], again["verdict"]) == (recorded["n"], recorded["verdict"])
    for name in ("mean_val_accuracy", "difference"):
        assert again[name] == pytest.approx(recorded[name], abs=1e-9)


def test_seconds_add_up_over_the_epochs_and_belong_to_their_accuracy() -> None:
    rows = [{"epoch": 1.0, "train_loss": 2.0, "val_accuracy": 0.3}, {"epoch": 2.0, "val_accuracy": 0.5}]
    timings = [{"epoch": 1.0, "train_s": 4.0, "val_s": 9.0}, {"epoch": 2.0, "train_s": 2.5, "val_s": 9.0}]
    assert race.points(rows, timings) == [
        {"epoch": 1.0, "train_s": 4.0, "val_accuracy": 0.3},
        {"epoch": 2.0, "train_s": 6.5, "val_accuracy": 0.5},
    ]
    with pytest.raises(ValueError, match="shorter"):
        race.points(rows, timings[:1])


def test_the_picture_has_a_line_per_system_on_a_log_axis() -> None:
    result = {
        "hardware": {"threads": 2, "cpu": "a CPU"},
        "precision": "32-true",
        "epochs": [
            {"epoch": 1.0, "train_s": 4.0, "val_accuracy": 0.3},
            {"epoch": 2.0, "train_s": 60.5, "val_accuracy": 0.512},
        ],
    }
    (axes,) = race.draw({"cpu78": result, "final": result}).axes
    assert axes.get_xscale() == "log"
    assert [line.get_xdata().tolist() for line in axes.lines] == [[4.0, 60.5]] * 2
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.3, 0.512]] * 2
    first, second = [text.get_text() for text in axes.get_legend().get_texts()]
    assert first == "cpu78: 51.2% after 60 s (2 threads of a CPU, 32-true)"
    assert second.startswith("final: ")
