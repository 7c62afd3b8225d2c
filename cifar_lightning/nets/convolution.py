"""A convolution that trains faster on small images, on a CPU in bfloat16."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

# oneDNN computes a weight's gradient row by row, up to 32 pixels in one instruction (Intel's AMX). A row of 8 pixels
# leaves three quarters of the instruction idle. For wider rows, or few channels, the copy costs more than it saves.
# `python -m benchmarks convolution` measures the gain.
WIDEST = 8
CHANNELS_PER_PIXEL = 16  # of a row: 64 channels for rows of 4, 128 for rows of 8
ROW = 32


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` without bias, with an odd kernel and the padding that goes with it.

    On a CPU in bfloat16 the weights' gradient of small images is computed with several images side by side, zeros
    between them. It is the same sum in another order. Everything else is torch's own.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        if (
            images.device.type == "cpu"
            and images.shape[-1] <= min(WIDEST, self.in_channels // CHANNELS_PER_PIXEL)
            and self.stride == (1, 1)
            and torch.is_grad_enabled()
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.bfloat16
            and not torch.compiler.is_compiling()
        ):
            output: Tensor = _SideBySide.apply(images.bfloat16(), self.weight.bfloat16())
            return output
        return super().forward(images)


class _SideBySide(torch.autograd.Function):
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
