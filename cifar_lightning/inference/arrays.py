"""Pictures in memory (PIL images, arrays, tensors) as one batch uint8 (N, 32, 32, 3)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from cifar_lightning.inference.picture import SIZE, Pixels, read_picture, to_pixels

Picture = Image.Image | npt.NDArray[Any] | Tensor | str | Path
Pictures = Picture | Iterable[Picture]


def to_batch(pictures: Pictures) -> Tensor:
    """Reduces pictures of any size to what the net sees, as files are: see `picture.to_pixels`.

    Args:
        pictures: one or several of: a PIL image; a file's path; an array (H, W) or (H, W, C); a tensor (C, H, W), as
            torch has it. C is 1, 3 or 4 (with alpha). Values are uint8, uint16 or floats from 0 to 1. An array
            (N, H, W, C) or a tensor (N, C, H, W) is several.

    Returns:
        uint8 (N, 32, 32, 3).

    Raises:
        ValueError: a shape or a value is out of range.
        TypeError: something else than a picture, or another dtype.
        PictureError: a file or an image cannot be decoded.
    """
    if isinstance(pictures, Image.Image | str | Path):
        pictures = [pictures]
    elif isinstance(pictures, np.ndarray | Tensor):
        if pictures.ndim == 4 and pictures.dtype in (np.uint8, torch.uint8):
            several = _channels_last(pictures)
            if several.shape[1:] == (SIZE, SIZE, 3):
                return torch.from_numpy(np.array(several))
        pictures = list(pictures) if pictures.ndim == 4 else [pictures]
    pixels = [_pixels(picture) for picture in pictures]
    return torch.from_numpy(np.stack(pixels) if pixels else np.empty((0, SIZE, SIZE, 3), np.uint8))


def _pixels(picture: Picture) -> Pixels:
    if isinstance(picture, Image.Image):
        return to_pixels(picture)
    if isinstance(picture, str | Path):
        return read_picture(Path(picture))
    if isinstance(picture, np.ndarray | Tensor):
        values = _channels_last(picture)
        if values.ndim == 3 and values.shape[2] == 1:
            values = values[:, :, 0]
        if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)) or 0 in values.shape:
            expected = "(C, H, W)" if isinstance(picture, Tensor) else "(H, W, C) or (H, W)"
            raise ValueError(f"a picture is {expected} with 1, 3 or 4 channels, got {tuple(picture.shape)}")
        return to_pixels(Image.fromarray(np.ascontiguousarray(_eight_bits(values))))
    raise TypeError(f"expected a PIL image, an array, a tensor or a path, got {type(picture).__name__}")


def _channels_last(picture: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    if isinstance(picture, Tensor):
        array: npt.NDArray[Any] = (picture.float() if picture.dtype == torch.bfloat16 else picture).numpy(force=True)
        return np.moveaxis(array, -3, -1) if array.ndim > 2 else array
    return picture


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"a picture's values are uint8, uint16 or floats from 0 to 1, got {values.dtype}")
    if not (values.min() >= 0 and values.max() <= 1):  # NaN fails too
        raise ValueError(f"a picture's floats are from 0 to 1, got {values.min():g} to {values.max():g}")
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
