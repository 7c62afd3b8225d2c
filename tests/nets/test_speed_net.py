"""SpeedNet: a whitening that whitens, convolutions that begin as the identity, shapes, complaints."""

import pytest
import torch
from torch import nn

from cifar_lightning.nets.speed_net import ConvGroup, SpeedNet, Whitening
from cifar_lightning.nets.summary import layer_table, shape_text


def natural_images(size: int) -> torch.Tensor:
    """Images whose neighbouring pixels and channels are alike, of mean 0."""
    noise = torch.randn(size, 3, 40, 40)
    smooth = nn.functional.avg_pool2d(noise, 9, stride=1)
    return smooth / smooth.std() + 0.3 * smooth.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("patterns", "kernel_size", "stride", "padding"), [(12, 2, 1, 0), (27, 3, 2, 1), (10, 3, 1, 0)]
)
def test_whitened_patches_are_uncorrelated_and_of_like_size(
    patterns: int, kernel_size: int, stride: int, padding: int, seeded: None
) -> None:
    layer = Whitening(patterns, kernel_size, stride, padding, bias=False)
    images = natural_images(500)
    layer.start_from_images(images)
    inner = nn.functional.conv2d(images, layer.weight, stride=1)[:, :patterns]  # without the border
    channels = inner.transpose(0, 1).flatten(1)
    covariance = channels @ channels.T / channels.shape[1]
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 0.02
    assert covariance.diag().max() < 1.01
    assert covariance.diag()[0] > 0.95  # components that hardly vary stay below


def test_each_pattern_comes_with_its_negative(seeded: None) -> None:
    layer = Whitening(12, 2, 1, 0, bias=True)
    layer.start_from_images(natural_images(50))
    out = layer(natural_images(2))
    assert out.shape == (2, 24, 31, 31)
    torch.testing.assert_close(out[:, :12], -out[:, 12:])


def test_the_filters_do_not_learn_and_are_saved() -> None:
    net = SpeedNet(widths=(8, 8), whitening_bias=False)
    assert not any("stem" in name for name, _ in net.named_parameters())
    assert "layers.stem.0.weight" in net.state_dict()


def test_groups_begin_as_the_identity() -> None:
    group = ConvGroup(4, 6, depth=2, residual=False, activation=nn.ReLU)
    images = torch.rand(2, 4, 8, 8)
    torch.testing.assert_close(group.first[0](images)[:, :4], images)
    wide = torch.rand(2, 6, 4, 4)
    torch.testing.assert_close(group.rest[0](wide), wide)


def test_a_residual_group_adds_its_first_output() -> None:
    torch.manual_seed(0)
    group = ConvGroup(4, 6, depth=3, residual=True, activation=nn.GELU).eval()
    images = torch.rand(2, 4, 8, 8)
    first = group.first(images)
    torch.testing.assert_close(group(images), first + group.rest(first))
    assert sum(isinstance(module, nn.Conv2d) for module in group.modules()) == 3


def test_the_shapes_of_airbench() -> None:
    table = layer_table(SpeedNet())
    assert [(row.name, shape_text(row.output_shape)) for row in table.rows] == [
        ("stem", "24x31x31"), ("group1", "64x15x15"), ("group2", "256x7x7"), ("group3", "256x3x3"),
        ("pool", "256"), ("output", "10"),
    ]  # fmt: skip


@pytest.mark.parametrize(("scale", "expected"), [(None, 1 / 16), (0.25, 0.25)])
def test_the_logits_are_scaled(scale: float | None, expected: float, seeded: None) -> None:
    net = SpeedNet(widths=(8, 16), logit_scale=scale).eval()
    net.start_from_images(natural_images(50))
    images = natural_images(4)
    torch.testing.assert_close(net(images), net.layers(images) * expected)
    assert net.layers.output.weight.std().item() == pytest.approx(1)


def test_each_part_can_be_left_out(seeded: None) -> None:
    net = SpeedNet(widths=(8, 8), whitening=False, identity=False)
    before = [parameter.clone() for parameter in net.parameters()]
    net.start_from_images(natural_images(4))
    assert all(torch.equal(one, other) for one, other in zip(before, net.parameters(), strict=True))
    assert isinstance(net.layers.stem[0], nn.Conv2d)
    assert net.layers.stem[0].weight.requires_grad
    images = torch.rand(1, 8, 4, 4)
    assert not torch.allclose(net.layers.group1.rest[0](images), images)


def test_normalisation_has_no_scale_to_learn() -> None:
    names = {name for name, parameter in SpeedNet(widths=(8,)).named_parameters() if parameter.requires_grad}
    assert names == {
        "layers.stem.0.bias", "layers.group1.first.0.weight", "layers.group1.first.2.bias",
        "layers.group1.rest.0.weight", "layers.group1.rest.1.bias", "layers.output.weight",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"widths": ()}, "at least 1"),
        ({"widths": (8, 0)}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"padding": -1}, "at least 0"),
        ({"patterns": 13}, "patterns must be from 1 to 12"),
        ({"patterns": 0}, "patterns must be from 1 to 12"),
        ({"widths": (8,) * 5}, "leave nothing"),
        ({"activation": "Tanh"}, "GELU, ReLU"),
        ({"logit_scale": 0.0}, "above 0"),
    ],
)
def test_values_that_make_no_net_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SpeedNet(**settings)  # type: ignore[arg-type]
