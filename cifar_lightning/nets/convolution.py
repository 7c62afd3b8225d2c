"""A convolution that trains faster on a CPU in bfloat16."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from cifar_lightning.nets.winograd import FILTER, Winograd, share_of_multiplications

# oneDNN computes a weight's gradient row by row, up to 32 pixels in one instruction (Intel's AMX). A row of 8 pixels
# leaves three quarters of the instruction idle. For wider rows, or few channels, the copy costs more than it saves.
# `python -m benchmarks convolution` measures the gain.
WIDEST = 8
CHANNELS_PER_PIXEL = 16  # of a row: 64 channels for rows of 4, 128 for rows of 8
ROW = 32

# Winograd's transforms cost more than they save where there are fewer products of channels than this for each channel
# in or out, and where tiles cover an image so badly that the multiplications are more than this share.
FEWEST_PRODUCTS = 48
LARGEST_SHARE = 0.5


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` without bias, with an odd kernel and the padding that goes with it.

    A training step in bfloat16 on a CPU goes other ways. With AMX the weights' gradient of small images is computed
    with several images side by side, zeros between them: the same sum in another order. Without AMX, and if it is asked
    for, a 3x3 convolution of many channels is Winograd's, see winograd.py. Everything else is torch's own.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: odd.
        stride: between pixels of the output.
        winograd: allow Winograd's convolution, with its rounding, where it is faster.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, winograd: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        products = in_channels * out_channels / (in_channels + out_channels)
        self.winograd = winograd and kernel_size == FILTER and stride == 1 and products >= FEWEST_PRODUCTS

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        output: Tensor
        way = faster_way(self, images)
        if way is Winograd:
            output = Winograd.apply(images.bfloat16(), self.weight)
        elif way is SideBySide:
            output = SideBySide.apply(images.bfloat16(), self.weight.bfloat16())
        else:
            output = super().forward(images)
        return output


def faster_way(layer: Conv2d, images: Tensor) -> type[torch.autograd.Function] | None:
    """The convolution that these images take; None for torch's own."""
    if (
        images.device.type != "cpu"
        or layer.stride != (1, 1)
        or not torch.is_grad_enabled()
        or not torch.is_autocast_enabled("cpu")
        or torch.get_autocast_dtype("cpu") != torch.bfloat16
        or torch.compiler.is_compiling()
    ):
        return None
    if has_amx():
        return SideBySide if images.shape[-1] <= min(WIDEST, layer.in_channels // CHANNELS_PER_PIXEL) else None
    return Winograd if layer.winograd and share_of_multiplications(images.shape) <= LARGEST_SHARE else None


def has_amx() -> bool:
    """Whether the processor multiplies matrices in bfloat16 in units of their own (Intel's AMX)."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


class SideBySide(torch.autograd.Function):
    """A convolution of (N, C, H, W) by (D, C, K, K) whose weights' gradient sees several images as one."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return F.conv2d(images, weight, padding=weight.shape[-1] // 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        padding = weight.shape[-1] // 2
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = conv2d_input(images.shape, weight, gradient, padding=padding)
        if ctx.needs_input_grad[1]:
            wide_images, wide_gradient = (side_by_side(tensor, padding) for tensor in (images, gradient))
            of_weight = conv2d_weight(wide_images, weight.shape, wide_gradient, padding=padding)
        return of_images, of_weight


def side_by_side(images: Tensor, gap: int) -> Tensor:
    """Images (N, C, H, W), channels_last, in rows of about 32 pixels: (n, C, H, m (W + gap)), with n m >= N.

    Behind each image stand `gap` columns of zeros, and zeros fill the last row.
    """
    number, channels, height, width = images.shape
    per_row = max(1, ROW // (width + gap))
    whole, rest = divmod(number, per_row)
    rows = images.new_zeros(whole + (rest > 0), height, per_row, width + gap, channels)
    pixels = images.permute(0, 2, 3, 1)
    first = pixels[: whole * per_row].reshape(whole, per_row, height, width, channels)
    rows[:whole, :, :, :width] = first.transpose(1, 2)
    if rest:
        rows[whole, :, :rest, :width] = pixels[whole * per_row :].transpose(0, 1)
    return rows.flatten(2, 3).permute(0, 3, 1, 2)
