"""The benchmark `gpu_day`, in miniature on a CPU: every piece, in several goes."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu_day

# What a script of airbench prints: a warm-up, then its runs.
RIVAL = """
import torch

images = torch.load("cifar10/train.pt")["images"]
assert images.shape == (5000, 32, 32, 3)
print("|  run     |  epoch  |  tta_val_acc  |  time_seconds  |")
for run in ["warmup", *range(200)]:
    print(f"|  {run}  |      0  |               |        0.1000  |")
    print(f"|          |   eval  |       0.9{run == 'warmup':d}00  |        2.5000  |")
"""


@pytest.mark.slow
@pytest.mark.cluster
def test_all_of_it_in_miniature_and_in_several_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for script in gpu_day.RIVALS.values():
        (tmp_path / script).write_text(RIVAL)
    output = tmp_path / "day.json"
    flags = ["--airbench", str(tmp_path), "--output", str(output), "--miniature", "--seeds94=2", "--seeds96=1"]
    assert gpu_day.main([*flags, "--block=1", "--minutes=1e-9"]) == 0
    assert "10 pieces left" in capsys.readouterr().out
    assert not output.exists()
    assert gpu_day.main([*flags, "--block=1", "--minutes=0.01"]) == 0  # the tests alone take longer
    assert list(json.loads(output.read_text())["pieces"]) == ["tests"]
    assert gpu_day.main([*flags, "--block=1"]) == 0
    found = json.loads(output.read_text())
    pieces = found["pieces"]
    assert list(pieces)[4:8] == [
        "gpu94 seed 0", "airbench94_muon.py runs 0 to 0", "gpu94 seed 1", "airbench94_muon.py runs 1 to 1",
    ]  # fmt: skip
    assert pieces["tests"]["exit_code"] == 0
    assert "passed" in pieces["tests"]["summary"]
    assert pieces["resume"]["different"] == []
    assert pieces["resume"]["stopped_with"] == 130
    assert len(pieces["guard"]["guard_us"]["values"]) == 2
    assert pieces["two devices"]["largest_relative_distance_of_a_tensor"] > 0
    assert pieces["airbench94_muon.py runs 0 to 0"]["accuracy"] == [0.9]
    assert found["summary"]["gpu94"]["n"] == 2
    assert found["summary"]["gpu94"]["rival"]["median_s"] == 2.5
    assert "gpu96" not in found["summary"], "one seed has no interval"
    before = output.read_bytes()
    assert gpu_day.main([*flags, "--block=1"]) == 0  # nothing is left
    assert output.read_bytes() == before
