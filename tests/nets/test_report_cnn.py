"""The report's net: its shapes (section 4 of the report), its variants, its complaints."""

import copy

import pytest
import torch
from torch import nn

from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.nets.summary import as_markdown, layer_table, shape_text


def test_the_report_s_table_of_layers() -> None:
    table = layer_table(ReportCNN())
    rows = table.rows
    assert [shape_text(row.output_shape) for row in rows] == [
        "32x16x16",
        "64x8x8",
        "128x4x4",
        "2048",
        "100",
        "50",
        "10",
    ]
    # Convolutions 5*5*in*out + out, batch norm 2*out, dense in*out + out.
    assert [row.parameters for row in rows] == [
        75 * 32 + 32 + 64, 800 * 64 + 64 + 128, 1600 * 128 + 128 + 256, 0, 204_900, 5_050, 510
    ]  # fmt: skip
    assert rows[0].kind == "Conv2d 5x5, BatchNorm2d, MaxPool2d, ReLU"
    assert rows[4].kind == "Linear, ReLU, Dropout 0.3"
    assert table.output_shape == (10,)
    assert "| **all** | | | **469,532** |" in as_markdown(table)


def test_no_relu_or_dropout_after_the_last_layer() -> None:
    assert isinstance(ReportCNN().layers[-1], nn.Linear)


@pytest.mark.parametrize(
    ("settings", "flat"),
    [({}, 2048), ({"channels": [16, 32, 64]}, 1024), ({"max_pool_kernel": 3}, 128), ({"max_pool_kernel": 1}, 131_072)],
)
def test_variants_flatten_to_what_the_pooling_leaves(settings: dict[str, object], flat: int) -> None:
    net = ReportCNN(**settings)  # type: ignore[arg-type]
    assert {row.name: row.output_shape for row in layer_table(net).rows}["flatten"] == (flat,)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_dropout_drops_in_training_only() -> None:
    torch.manual_seed(0)
    net, images = ReportCNN(dropout=0.5), torch.randn(4, 3, 32, 32)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))
    assert not [layer for layer in ReportCNN(dropout=0).modules() if isinstance(layer, nn.Dropout) and layer.p > 0]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0"),
        ({"channels": [32, 0, 8]}, r"channels, hidden_features and num_classes .* got \[32, 0, 8\]"),
        ({"channels": []}, "channels, hidden_features"),
        ({"num_classes": 0}, "num_classes"),
        ({"max_pool_kernel": 0}, "max_pool_kernel must be at least 1"),
        ({"max_pool_kernel": 4}, "leave a pixel of 32x32 after 3 poolings, got 4"),
    ],
)
def test_values_out_of_range(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ReportCNN(**settings)  # type: ignore[arg-type]


def test_the_table_leaves_the_net_as_it_was() -> None:
    net = ReportCNN()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layer_table(net)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_the_table_of_a_net_without_a_container() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3)
            self.second = nn.Linear(4, 5)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.second(self.first(images).mean(dim=(2, 3))) * self.scale
            return torch.cat([features, features], dim=1)

    table = layer_table(Plain())
    assert [(row.name, row.output_shape) for row in table.rows] == [("first", (4, 30, 30)), ("second", (5,))]
    assert table.output_shape == (10,)  # what leaves the net, not its last layer
    assert table.parameters == 3 * 9 * 4 + 4 + 4 * 5 + 5 + 1


def test_pooling_before_relu_gives_the_report_s_values_and_gradients() -> None:
    torch.manual_seed(0)
    net = ReportCNN(dropout=0.0)
    theirs = copy.deepcopy(net)
    for name in ("conv1", "conv2", "conv3"):
        convolution, norm, pool, relu = theirs.layers.get_submodule(name).children()
        setattr(theirs.layers, name, nn.Sequential(convolution, norm, relu, pool))
    images = torch.randn(8, 3, 32, 32)
    outputs = [one(images) for one in (net, theirs)]
    for output in outputs:
        output.square().sum().backward()
    assert torch.equal(*outputs)
    for ours, expected in zip(net.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(ours.grad, expected.grad)
