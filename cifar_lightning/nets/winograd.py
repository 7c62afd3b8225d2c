"""Winograd's convolution: 3x3 filters with a quarter of the multiplications, for training in bfloat16.

F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308): a tile of 4x4
outputs costs 36 multiplications for each pair of channels instead of 144. Tiles and filters are transformed, multiplied
position by position as 36 matrix products over the channels, and transformed back. Both gradients come from the same 36
positions.

In exact arithmetic the result is that of a convolution. In bfloat16 every position is rounded, and the transform back
enlarges that: the relative error is about 2%, ten times that of a direct convolution. With the usual points 0, 1, -1, 2
and -2 it would be 4 to 5%. (tests/nets/test_winograd.py holds the bounds.)
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE, FILTER = 4, 3
SIDE = TILE + FILTER - 1  # of the transformed tile
# Where the polynomials are evaluated, besides infinity. These keep the transforms' entries small.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


@cache
def transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The matrices of tiles, (36, 36), of filters, (36, 9), always float32, and of outputs, (16, 36).

    Each is the Kronecker product of the two directions' one: it maps all values of a tile at once. Behind them stand
    the transposed matrices of tiles and outputs, for the gradients: torch multiplies slowly by a view of a matrix.
    """
    points = torch.tensor(POINTS, dtype=torch.float64)
    tiles = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    filters = torch.zeros(SIDE, FILTER, dtype=torch.float64)
    outputs = torch.zeros(TILE, SIDE, dtype=torch.float64)
    for position, point in enumerate(points):
        others = torch.cat([points[:position], points[position + 1 :]])
        tiles[position, :-1] = _polynomial(others)
        filters[position] = point ** torch.arange(FILTER) / (point - others).prod()
        outputs[:, position] = point ** torch.arange(TILE)
    tiles[-1], filters[-1, -1], outputs[-1, -1] = _polynomial(points), 1, 1
    # Rows of one length: what is rounded is then of one size.
    lengths = tiles.norm(dim=1, keepdim=True)
    tiles, filters = tiles / lengths, filters * lengths
    lengths = filters.norm(dim=1, keepdim=True)
    filters, outputs = filters / lengths, outputs * lengths.T
    of_tiles, of_outputs = torch.kron(tiles, tiles).to(dtype), torch.kron(outputs, outputs).to(dtype)
    of_filters = torch.kron(filters, filters).float()
    return of_tiles, of_filters, of_outputs, of_tiles.T.contiguous(), of_outputs.T.contiguous()


def _polynomial(roots: Tensor) -> Tensor:
    """The coefficients of the product of (x - root), from the constant on."""
    coefficients = torch.ones(1, dtype=roots.dtype)
    zero = torch.zeros(1, dtype=roots.dtype)
    for root in roots:
        coefficients = torch.cat([zero, coefficients]) - root * torch.cat([coefficients, zero])
    return coefficients


def share_of_multiplications(shape: torch.Size) -> float:
    """Winograd's multiplications over a direct convolution's, for images (N, C, H, W): a quarter where tiles fit."""
    down, across = _tiling(shape)
    return down * across * SIDE**2 / (shape[2] * shape[3] * FILTER**2)


class Winograd(torch.autograd.Function):
    """Images (N, C, H, W) by a weight (K, C, 3, 3), float32, to (N, K, H, W), padded with zeros, stride 1.

    The output and the images' gradient have the dtype of the images. There is no gradient of the gradients.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            _, of_filters, of_outputs, _, _ = transforms(images.dtype)
            filters = (of_filters @ weight.detach().flatten(2).flatten(0, 1).T).view(-1, *weight.shape[:2])
            filters = filters.to(images.dtype)
            tiles = _tiles(images)
            outputs = of_outputs @ torch.bmm(tiles, filters.mT).flatten(1)  # (16, N tiles K)
        ctx.save_for_backward(tiles, filters)
        ctx.shape = images.shape
        return _put_together(outputs, images.shape, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        tiles, filters = ctx.saved_tensors
        _, of_filters, _, tiles_back, outputs_back = transforms(gradient.dtype)
        of_products = (outputs_back @ _taken_apart(gradient)).view(len(tiles), -1, filters.shape[1])
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = _overlapped(tiles_back @ torch.bmm(of_products, filters).flatten(1), ctx.shape)
        if ctx.needs_input_grad[1]:
            of_positions = torch.bmm(of_products.mT, tiles)  # (36, K, C)
            of_weight = (of_filters.T @ of_positions.float().flatten(1)).T.reshape(*filters.shape[1:], FILTER, FILTER)
        return of_images, of_weight


# Below, pixels are in the order (N, H, W, C) of channels_last, and a tile's values stand outermost.


def _tiling(shape: torch.Size) -> tuple[int, int]:
    """How many tiles cover images (N, C, H, W), down and across."""
    return -(-shape[2] // TILE), -(-shape[3] // TILE)


def _tiles(images: Tensor) -> Tensor:
    """The transformed tiles, which overlap by two pixels: (36, N tiles, C)."""
    number, channels, height, width = images.shape
    down, across = _tiling(images.shape)
    padded = images.new_zeros(number, TILE * down + 2, TILE * across + 2, channels)
    padded[:, 1 : height + 1, 1 : width + 1] = images.permute(0, 2, 3, 1)
    image, row, pixel, _ = padded.stride()
    shape = (SIDE, SIDE, number, down, across, channels)
    values = padded.as_strided(shape, (row, pixel, image, TILE * row, TILE * pixel, 1)).reshape(SIDE**2, -1)
    return (transforms(images.dtype)[0] @ values).view(SIDE**2, -1, channels)


def _put_together(outputs: Tensor, shape: torch.Size, channels: int) -> Tensor:
    """Images (N, K, H, W) from the tiles' outputs (16, N tiles K)."""
    number, _, height, width = shape
    down, across = _tiling(shape)
    values = outputs.view(TILE, TILE, number, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    pixels = values.reshape(number, TILE * down, TILE * across, channels)[:, :height, :width]
    return pixels.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _taken_apart(images: Tensor) -> Tensor:
    """The opposite of `_put_together`, zeros beyond the image."""
    number, channels, height, width = images.shape
    down, across = _tiling(images.shape)
    pixels = images.permute(0, 2, 3, 1)
    if (height, width) != (TILE * down, TILE * across):
        filled = images.new_zeros(number, TILE * down, TILE * across, channels)
        filled[:, :height, :width] = pixels
        pixels = filled
    return pixels.reshape(number, down, TILE, across, TILE, channels).permute(2, 4, 0, 1, 3, 5).reshape(TILE**2, -1)


def _overlapped(tiles: Tensor, shape: torch.Size) -> Tensor:
    """Images (N, C, H, W), the sum of overlapping tiles (36, N tiles C)."""
    number, channels, height, width = shape
    down, across = _tiling(shape)
    values = tiles.view(SIDE, SIDE, number, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    total = tiles.new_zeros(number, down + 1, TILE, across + 1, TILE, channels)
    total[:, :down, :, :across] = values[:, :, :TILE, :, :TILE]
    total[:, 1:, :2, :across] += values[:, :, TILE:, :, :TILE]
    total[:, :down, :, 1:, :2] += values[:, :, :TILE, :, TILE:]
    total[:, 1:, :2, 1:, :2] += values[:, :, TILE:, :, TILE:]
    pixels = total.view(number, TILE * (down + 1), TILE * (across + 1), channels)
    pixels = pixels[:, 1 : height + 1, 1 : width + 1]
    return pixels.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
