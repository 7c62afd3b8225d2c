"""ResNet18: the familiar shapes and number of parameters."""

import pytest
import torch

from cifar_lightning.nets.resnet import BasicBlock, ResNet18
from cifar_lightning.nets.summary import layer_table, shape_text


def test_shapes_and_parameters() -> None:
    table = layer_table(ResNet18())
    assert [shape_text(row.output_shape) for row in table.rows] == [
        "64x32x32", "64x32x32", "128x16x16", "256x8x8", "512x4x4", "512", "10",
    ]  # fmt: skip
    assert table.parameters == 11_173_962  # as usually counted for CIFAR-10


def test_a_block_adds_its_input() -> None:
    torch.manual_seed(0)
    block = BasicBlock(4, 4, stride=1).eval()
    images = torch.rand(2, 4, 8, 8)
    torch.testing.assert_close(block(images), (block.residual(images) + images).relu())
    assert BasicBlock(4, 8, stride=2)(images).shape == (2, 8, 4, 4)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ResNet18(width=0)
