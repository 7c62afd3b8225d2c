"""The benchmark `augmentation`: every augmentation trains, beside a step without any."""

import pytest
from data.official_format import TinyDataset

from benchmarks import augmentation
from benchmarks.workbench import Workbench
from cifar_lightning.data import loader
from cifar_lightning.data.transforms import Augmentation


def test_each_augmentation_has_its_step_and_its_ratio(
    bench: Workbench, tiny_cifar10: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmentation, "CHUNK", 16)
    monkeypatch.setattr(loader, "CHUNK", 16)
    result = augmentation.measure(bench, batch_size=8)
    assert (result["warmup_steps"], result["steps"]) == (2, 6)
    assert list(result["ms_per_step"]) == list(augmentation.AUGMENTATIONS)
    for name, times in result["ratio"].items():
        step, plain = (result["ms_per_step"][which]["values"] for which in (name, augmentation.NONE))
        assert times["values"] == pytest.approx([step[0] / plain[0]])
    assert result["settings"]["mixup"]["mixup"] > 0


def test_every_setting_is_measured() -> None:
    """A new augmentation is not forgotten; cutout costs what erasing does, and jitter is two sums."""
    together, off = augmentation.AUGMENTATIONS["all of these"], Augmentation()
    measured = {name for name in vars(off) if getattr(together, name) != getattr(off, name)}
    assert measured == {"flip", "crop_padding", "policy", "erasing", "mixup", "cutmix"}
