"""The convolution whose weights' gradient sees several images as one: the same sums as torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lightning.nets import convolution
from cifar_lightning.nets.convolution import Conv2d, side_by_side
from cifar_lightning.nets.speed_net import SpeedNet


@pytest.mark.parametrize(
    ("number", "side", "kernel"), [(9, 7, 3), (8, 7, 3), (1, 3, 3), (33, 1, 3), (10, 5, 5), (5, 8, 3)]
)
def test_its_gradients_are_those_of_torchs_convolution(
    number: int, side: int, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "has_amx", lambda: True)
    torch.manual_seed(0)
    images = torch.randn(number, 128, side, side).contiguous(memory_format=torch.channels_last)
    direction = torch.randn(number, 32, side, side)

    def gradients(convolution: nn.Conv2d) -> tuple[Tensor, ...]:
        inputs = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            output = convolution(inputs)
        output.backward(direction.to(output.dtype))
        assert inputs.grad is not None
        assert convolution.weight.grad is not None
        return output.detach(), inputs.grad, convolution.weight.grad

    ours = Conv2d(128, 32, kernel)
    torchs = nn.Conv2d(128, 32, kernel, padding=kernel // 2, bias=False)
    torchs.load_state_dict(ours.state_dict())
    for got, expected in zip(gradients(ours), gradients(torchs), strict=True):
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, rtol=0.02, atol=0.01 * expected.abs().max().item())


def test_images_stand_in_rows_with_zeros_between() -> None:
    images = (
        torch.arange(1.0, 11.0)[:, None, None, None].expand(10, 2, 3, 7).contiguous(memory_format=torch.channels_last)
    )
    rows = side_by_side(images, gap=1)
    assert rows.shape == (3, 2, 3, 32)  # four images in a row
    expected = torch.zeros(12, 8)
    expected[:10, :7] = torch.arange(1.0, 11.0)[:, None]
    assert torch.equal(rows[:, 1, 2].reshape(12, 8), expected)
    assert rows.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("amx", "bf16", "side", "width", "is_ours"),
    [
        (True, True, 32, 128, True),
        (True, False, 32, 128, False),
        (True, True, 16, 128, True),
        (True, True, 32, 32, False),
        (False, True, 32, 128, False),
    ],
)
def test_only_small_images_of_many_channels_in_bfloat16_take_the_detour(
    amx: bool, bf16: bool, side: int, width: int, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "has_amx", lambda: amx)
    shapes = list[tuple[int, int]]()

    def noted(images: Tensor, gap: int) -> Tensor:
        shapes.append((images.shape[1], images.shape[-1]))
        return side_by_side(images, gap)

    monkeypatch.setattr(convolution, "side_by_side", noted)
    net = SpeedNet(widths=[8, width, width])
    net.start_from_images(torch.randn(50, 3, 32, 32))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = F.cross_entropy(net(torch.randn(4, 3, side, side)).float(), torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert bool(shapes) is is_ours
    assert all(side <= min(channels // 16, 8) for channels, side in shapes[::2]), "images, then their gradient"
    assert all(parameter.grad is not None for parameter in net.parameters() if parameter.requires_grad)
    shapes.clear()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        net(torch.randn(4, 3, side, side))
    assert not shapes
