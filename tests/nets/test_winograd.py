"""Winograd's convolution: torch's own in exact arithmetic, a known rounding in bfloat16, used where it pays."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lightning.nets import convolution, winograd
from cifar_lightning.nets.convolution import Conv2d
from cifar_lightning.nets.winograd import Winograd

Way = Callable[[Tensor, Tensor], Tensor]


def errors(dtype: torch.dtype, height: int, width: int, tested: Way = Winograd.apply) -> list[float]:
    """Relative, against torch's convolution in float32: of the output, the images' gradient and the weight's."""
    torch.manual_seed(0)
    images = F.gelu(torch.randn(20, 64, height, width)).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, direction = torch.randn(128, 64, 3, 3) / 24, torch.randn(20, 128, height, width).to(dtype)
    found = []
    for way, inputs in ((tested, images.clone()), (_torchs, images.float())):
        inputs, learnt = inputs.requires_grad_(), weight.clone().requires_grad_()
        output = way(inputs, learnt)
        output.backward(direction.to(output.dtype))
        assert output.dtype == inputs.dtype
        assert output.is_contiguous(memory_format=torch.channels_last)
        found.append([each.detach().float() for each in (output, inputs.grad, learnt.grad)])
    return [((got - expected).norm() / expected.norm()).item() for got, expected in zip(*found, strict=True)]


def _torchs(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight.to(images.dtype), padding=1)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 7), (15, 15), (3, 3), (1, 1), (5, 14)])
def test_in_float32_it_is_torchs_convolution(height: int, width: int) -> None:
    assert max(errors(torch.float32, height, width)) < 5e-6


def test_its_rounding_in_bfloat16_is_about_two_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0.01 < max(errors(torch.bfloat16, 8, 8)) < 0.025
    assert 0.001 < max(errors(torch.bfloat16, 8, 8, _torchs)) < 0.003, "a tenth"
    monkeypatch.setattr(winograd, "POINTS", (0.0, 1.0, -1.0, 2.0, -2.0))
    winograd.transforms.cache_clear()
    assert 0.04 < max(errors(torch.bfloat16, 8, 8)) < 0.06, "the usual points"
    winograd.transforms.cache_clear()


def test_it_takes_a_quarter_of_the_multiplications_where_tiles_fit() -> None:
    assert winograd.share_of_multiplications(torch.Size((1, 1, 8, 16))) == 0.25
    assert winograd.share_of_multiplications(torch.Size((1, 1, 1, 1))) == 4


@pytest.mark.parametrize(
    ("allowed", "amx", "bf16", "channels", "side", "is_taken"),
    [
        (True, False, True, 128, 16, True),
        (False, False, True, 128, 16, False),
        (True, True, True, 128, 16, False),
        (True, False, False, 128, 16, False),
        (True, False, True, 64, 16, False),
        (True, False, True, 128, 5, False),
    ],
)
def test_only_where_it_is_allowed_and_faster(
    allowed: bool, amx: bool, bf16: bool, channels: int, side: int, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "has_amx", lambda: amx)
    layer = Conv2d(channels, channels, winograd=allowed)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        trained = layer(torch.randn(2, channels, side, side))
        with torch.no_grad():
            scored = layer(torch.randn(2, channels, side, side))
    assert ("Winograd" in type(trained.grad_fn).__name__) is is_taken
    assert scored.shape == trained.shape
    trained.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
