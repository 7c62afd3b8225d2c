"""The benchmark `rivals`: a script that asks for a GPU runs on the CPU, for an eighth of its schedule."""

import sys
from pathlib import Path

import pytest
import torch
from data.official_format import TinyDataset

from benchmarks import rivals

# The names and calls of airbench94_muon.py that rivals.py answers to, around no training.
SCRIPT = """
import sys
from math import ceil
import torch

code = open(sys.argv[0]).read()


class CifarLoader:
    def __init__(self, path, train=True):
        data = torch.load(f"{path}/{'train' if train else 'test'}.pt", map_location=torch.device("cuda"))
        self.images, self.epoch = data["images"].half(), 0

    def __iter__(self):
        self.epoch += 1
        yield self.images


class CifarNet(torch.nn.Module):
    pass


@torch.compile
def main(run, model):
    loader = CifarLoader("cifar10", train=True)
    assert loader.epoch == 2
    assert loader.images.dtype == DTYPE
    assert len(CifarLoader("cifar10", train=False).images) == 12
    assert ceil(8 * 25) == 25
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        start.record()
        end.record()
        torch.cuda.synchronize()
        start.elapsed_time(end)
"""


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "torch.bfloat16"), ("float32", "torch.float32")])
def test_a_script_for_a_gpu(precision: str, dtype: str, tiny_cifar10: TinyDataset, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("DTYPE", dtype))
    half, argv = torch.Tensor.half, sys.argv
    for _ in range(2):
        timed = rivals.time_airbench(script, precision)
        assert timed["timed"] == "1 of 8 epochs"
        assert 0 < timed["total_s"] < 1
    assert torch.Tensor.half is half
    assert sys.argv is argv
