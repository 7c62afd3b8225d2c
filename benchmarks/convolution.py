"""What a training step on a CPU in bfloat16 gains by `cifar_lightning.nets.convolution`.

    python -m benchmarks convolution [--rounds 9] [--output results/convolution_without_amx.json]

times steps with it and with torch's own convolutions, in turn, and writes `results/convolution.json`: milliseconds, and
their ratio by rounds, for cpu94's net on images of several sizes, for cpu78's, for cpu96's and for ResNet-18. What is
ours depends on the processor: see `faster_way` there.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.measure import conditions, interleave, ratio, summaries
from cifar_lightning.nets import convolution
from cifar_lightning.nets.resnet import ResNet18
from cifar_lightning.nets.speed_net import SpeedNet
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.record import RESULTS

OURS, TORCHS = "ours", "torch's own"
Case = tuple[str, Callable[[], nn.Module], int, int]  # its name, the net, the side of an image, images in a batch


def cases(batch_size: int = 500) -> list[Case]:
    """What is timed."""
    sides = (32, 28, 24, 20, 16)
    nets: list[Case] = [(f"SpeedNet on {side}x{side}", speed_net, side, batch_size) for side in sides]
    nets.append(("SpeedNet of cpu78 on 32x32", small_net, 32, batch_size // 2))
    nets.append(("SpeedNet of cpu96 on 32x32", wide_net, 32, batch_size // 4))
    return [*nets, ("ResNet18 on 32x32", ResNet18, 32, batch_size // 4)]


def speed_net() -> SpeedNet:
    """cpu94's, which may use Winograd's convolution here."""
    net = SpeedNet(whitening_bias=False, winograd=True)
    net.start_from_images(torch.randn(500, 3, 32, 32))
    return net


def small_net() -> SpeedNet:
    """cpu78's."""
    net = SpeedNet(
        [32, 64, 64], patterns=16, kernel_size=3, stride=2, padding=1, whitening_bias=False, activation="ReLU"
    )
    net.start_from_images(torch.randn(500, 3, 32, 32))
    return net


def wide_net() -> SpeedNet:
    """cpu96's."""
    net = SpeedNet([128, 384, 512], depth=3, residual=True, whitening_bias=False, winograd=True)
    net.start_from_images(torch.randn(500, 3, 32, 32))
    return net


def main(argv: list[str]) -> int:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser("python -m benchmarks convolution", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="of each way, in turn")
    parser.add_argument("--output", type=Path, default=RESULTS / "convolution.json")
    arguments = parser.parse_args(argv)
    found = measure(cases(), arguments.rounds)
    write_json(arguments.output, conditions("cpu") | {"precision": "bf16-mixed", "cases": found})
    return 0


def measure(timed: Sequence[Case], rounds: int) -> dict[str, Any]:
    """`ms_per_step` of both ways, and `ratio`, ours divided by torch's, by case."""
    found = {}
    for name, make, side, batch_size in timed:
        step = training_step(make(), side, batch_size)
        values = interleave({OURS: lambda: step(True), TORCHS: lambda: step(False)}, rounds)  # noqa: B023
        share = ratio(values[OURS], values[TORCHS])
        found[name] = {"batch_size": batch_size, "ms_per_step": summaries(values), "ratio": share}
        print(f"{name:<28}{share['median']:.2f} of the time with torch's own convolutions", flush=True)
    return found


def training_step(net: nn.Module, side: int, batch_size: int) -> Callable[[bool], float]:
    """A step of SGD, as a function of whether convolutions may be ours; returns its milliseconds."""
    net = net.to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))
    optimizer = torch.optim.SGD([parameter for parameter in net.parameters() if parameter.requires_grad], lr=1e-3)
    ways = {True: convolution.faster_way, False: lambda layer, images: None}

    def step(is_ours: bool) -> float:
        with patch.object(convolution, "faster_way", ways[is_ours]):
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(net(images).float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return 1e3 * (time.perf_counter() - began)

    step(True)  # the first one makes oneDNN's kernels
    step(False)
    return step
