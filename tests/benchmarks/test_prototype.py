"""The bare loop with switches: each of them changes what it should."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import prototype, tables
from benchmarks.prototype import Options
from cifar_lightning.data.datamodule import CIFAR10DataModule

SMALL = Options(epochs=3, batch_size=100, widths="8,8,8", prune_from=1)


@pytest.fixture(scope="module")
def data() -> CIFAR10DataModule:
    found = CIFAR10DataModule(val_size=2000, source="sample")
    found.prepare_data()
    found.setup("fit")
    return found


def test_what_the_switches_cost(data: CIFAR10DataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(net: torch.nn.Module, *arguments: object) -> tuple[float, float]:
        return float(sum(parameter.double().sum() for parameter in net.parameters())), 0.0

    monkeypatch.setattr(prototype, "_scores", fingerprint)
    whole = prototype.train(data, SMALL, seed=0, limit=4)
    assert whole["steps"] == 12
    again = prototype.train(data, SMALL, seed=0, limit=4)
    assert {name: value for name, value in again.items() if name != "train_s"} == {
        name: value for name, value in whole.items() if name != "train_s"
    }
    small = prototype.train(data, replace(SMALL, sizes="16"), seed=0, limit=4)
    frozen = prototype.train(data, replace(SMALL, freeze=0.5), seed=0, limit=4)
    assert 0.6 * whole["train_flop"] < small["train_flop"] < 0.8 * whole["train_flop"]
    assert small["train_flop"] < frozen["train_flop"] < whole["train_flop"]
    early = prototype.train(data, replace(SMALL, pool_first="2"), seed=0, limit=4)
    assert 0.8 * whole["train_flop"] < early["train_flop"] < 0.95 * whole["train_flop"]
    averaged = prototype.train(data, replace(SMALL, ema=0.5), seed=0, limit=4)
    assert averaged["train_flop"] == whole["train_flop"]
    assert averaged["val_accuracy"] != whole["val_accuracy"]


@pytest.mark.parametrize("rescale", [False, True])
def test_easy_images_are_left_out(rescale: bool) -> None:
    losses = torch.arange(100.0)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    kept, weights = prototype._kept(replace(SMALL, rescale=rescale), order, losses, 60)
    assert len(kept) == len(set(kept.tolist())) == 60
    assert set(range(50, 100)) <= set(kept.tolist())  # the hard ones
    assert kept.tolist() == [image for image in order.tolist() if image in set(kept.tolist())]
    assert weights[kept].sum() == (100 if rescale else 60)
    if not rescale:
        assert kept.min() == 40


def test_a_try_is_kept_with_its_verdict(
    data: CIFAR10DataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(data: CIFAR10DataModule, options: Options, seed: int) -> dict[str, float]:
        scores = {"val_accuracy": 0.9, "val_loss": 0.4, "val_accuracy_tta": 0.9 + seed / 100}
        return scores | {"train_s": 1.0, "train_flop": 2e15}

    monkeypatch.setattr(prototype, "train", quick)
    monkeypatch.setattr(prototype, "require_commit", lambda: None)
    monkeypatch.setattr(prototype, "CIFAR10DataModule", lambda **settings: data)
    output = ["--output", str(tmp_path / "trials.json")]
    assert (
        prototype.main(["no easy ones", "--options.prune=0.3", "--options.rescale=true", "--seeds", "2", *output]) == 0
    )
    assert prototype.main(["no easy ones", "--verdict", "not kept", *output]) == 0
    entry = json.loads((tmp_path / "trials.json").read_text())["cpu94, prototype"]["no easy ones"]
    assert (entry["options"]["prune"], entry["options"]["rescale"], entry["verdict"]) == (0.3, True, "not kept")
    assert entry["val_accuracy_tta"]["mean"] == pytest.approx(0.905)
    assert prototype.main(["one seed", "--seeds", "1", *output]) == 0
    lines = tables.trials_table(tmp_path).splitlines()
    assert "| no easy ones | 2 | 90.50% (84.15% to 96.85%) | 0.4000 | 2.0000 | not kept |" in lines[2]
    assert "| one seed | 1 | 90.00% | 0.4000 | 2.0000 |  |" in lines[3]
    with pytest.raises(SystemExit):
        prototype.main(["another", "--options.pruen=0.3", *output])
