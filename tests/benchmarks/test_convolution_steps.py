"""The benchmark of the convolution, in small: both ways are timed, and the module is as it was."""

import pytest
import torch

from benchmarks import convolution as benchmark
from cifar_lightning.nets import convolution


def test_both_ways_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()
    usual = convolution.faster_way
    monkeypatch.setattr(
        convolution, "faster_way", lambda layer, images: asked.append(images.shape[-1]) or usual(layer, images)
    )
    found = benchmark.measure(benchmark.cases(batch_size=8)[4:], rounds=2)
    assert list(found) == [
        "SpeedNet on 16x16", "SpeedNet of cpu78 on 32x32", "SpeedNet of cpu96 on 32x32", "ResNet18 on 32x32",
    ]  # fmt: skip
    for case in found.values():
        assert {len(summary["values"]) for summary in case["ms_per_step"].values()} == {2}
        ours, torchs = (case["ms_per_step"][name]["values"] for name in (benchmark.OURS, benchmark.TORCHS))
        assert case["ratio"]["values"] == pytest.approx([one / other for one, other in zip(ours, torchs, strict=True)])
    assert asked  # on the steps that are ours
    assert convolution.faster_way(convolution.Conv2d(8, 8), torch.randn(1, 8, 2, 2)) is None
    assert asked[-1] == 2, "the module is as it was"
