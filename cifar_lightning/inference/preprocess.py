"""What the net sees of an image of any size: from a file, a PIL image, an array or a tensor to uint8 (32, 32, 3)."""

import math
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cifar_lightning.errors import ImageError

Pixels = npt.NDArray[np.uint8]  # (32, 32, 3)
AnyImage = Image.Image | npt.NDArray[Any] | Tensor | str | Path

SIZE = 32  # CIFAR-10's height and width in pixels

# The most common first. Not all that Pillow knows: EPS would start another program, and some formats have no
# signature, so that any file would pass for one of them.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")

# A small file can announce pixels that fill any memory: the limit is checked before decoding.
MAX_PIXELS = 2**26
MAX_BYTES = 2**29  # WebP and AVIF files are read into memory as a whole
# Images above this are decoded one at a time, so that memory does not grow with the number of threads.
LARGE_PIXELS = 2**24
_one_large = threading.Lock()

# A JPEG can be decoded at a half, a quarter or an eighth of its size for a part of the time. What is left is at least
# this many times as large as what is wanted, so that the anti-aliased resizing still decides how the result looks.
DRAFT_FACTOR = 2


@cache
def readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def suffixes() -> frozenset[str]:
    """The lower-case suffixes, with their point, of files in `readable_formats`."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable_formats())


@contextmanager
def _decoding() -> Iterator[None]:
    """Turns what the system and Pillow raise into ImageError."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # a decoder that meets broken data can raise anything
        if isinstance(error, UnidentifiedImageError):
            reason = f"is no image in a format that is read ({', '.join(readable_formats())})"
        elif isinstance(error, Image.DecompressionBombError):  # from Pillow's own, larger limit
            reason = f"announces too many pixels; at most {MAX_PIXELS:,} are decoded"
        elif isinstance(error, MemoryError):
            reason = "needs more memory than there is"
        elif isinstance(error, OSError) and error.strerror:
            reason = f"cannot be read: {error.strerror}"
        else:
            reason = f"is damaged or cut off: {' '.join(str(error).split())[:160] or type(error).__name__}"
        raise ImageError(reason) from error


@_decoding()
def decode(source: Path | BinaryIO) -> Pixels:
    """Decodes an image file, or the bytes of one; of several frames or pages the first.

    Raises ImageError: it is not there, is no image, is damaged, or announces more than `MAX_PIXELS`.
    """
    if isinstance(source, Path):
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):  # reading from a pipe could wait for ever
            raise ImageError("is not a file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
    with Image.open(source, formats=readable_formats()) as image:
        _check_size(image)
        width, height = image.size
        side = min(width, height) / (DRAFT_FACTOR * SIZE)
        image.draft(None, (math.ceil(width / side), math.ceil(height / side)))  # changes JPEGs alone
        # A progressive JPEG fills memory by what it announces, however small it is decoded.
        is_large = max(image.width * image.height, width * height // 4) > LARGE_PIXELS
        with _one_large if is_large else nullcontext():
            return to_pixels(image)


@_decoding()
def to_pixels(image: Image.Image) -> Pixels:
    """Reduces an opened image of any mode and size.

    The largest centred square is taken, and resized with anti-aliasing (bicubic over the whole area that a new pixel
    covers) to 32x32; an image of 32x32 keeps its pixels. EXIF's orientation is applied, grey becomes three equal
    channels, 16 bits become 8, and what is transparent shows white.

    Raises ImageError: too many pixels, an unknown kind of pixel, or damaged data.
    """
    _check_size(image)
    image.load()  # before the orientation is read: Pillow turns a TIFF while it loads, and others not
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # Pillow has the 16 bits of a PGM, and in older versions those of a PNG, in a mode that else means 32 bits.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PPM", "PNG")):
        raise ImageError("has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow's own conversion would cut off, not scale
        image = Image.fromarray(_eight_bits(np.asarray(image, np.uint16)))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    # Not ImageOps.fit, which has no reducing_gap: slower for large images, and other pixels.
    small = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    if mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    # After the resizing, where it costs nothing: the centre square of a turned image is the turned square. With the
    # orientation alone: exif_transpose writes all tags anew, which fails where one of them is damaged.
    if orientation != 1:
        small.info = {}
        small.getexif()[ExifTags.Base.Orientation] = orientation
        small = ImageOps.exif_transpose(small)
    return np.array(small)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"announces {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are decoded")
    if not width or not height:
        raise ImageError("has no pixels")


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Scales and rounds uint16, or floats from 0 to 1, to the range of uint8."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"an image's values are uint8, uint16 or floats from 0 to 1, got {values.dtype}")
    if not (values.min() >= 0 and values.max() <= 1):  # NaN fails too
        raise ValueError(f"an image's floats are from 0 to 1, got {values.min():g} to {values.max():g}")
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)


def to_batch(images: AnyImage | Iterable[AnyImage]) -> Tensor:
    """Reduces images of any size to what the net sees, as `to_pixels` does.

    Args:
        images: one or several of: a PIL image; a file's path; an array (H, W) or (H, W, C); a tensor (C, H, W), as
            torch has it. C is 1, 3 or 4 (with alpha). Values are uint8, uint16 or floats from 0 to 1. An array
            (N, H, W, C) or a tensor (N, C, H, W) is several.

    Returns:
        uint8 (N, 32, 32, 3).

    Raises:
        ValueError: a shape or a value is out of range.
        TypeError: something else than an image, or another dtype.
        ImageError: a file or an image cannot be decoded.
    """
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        array = _channels_last(images)
        if array.dtype == np.uint8 and array.shape[1:] == (SIZE, SIZE, 3):
            return torch.from_numpy(np.array(array))
    elif isinstance(images, Image.Image | str | Path | np.ndarray | Tensor):
        images = [images]
    pixels = [_pixels(image) for image in images]
    return torch.from_numpy(np.stack(pixels) if pixels else np.empty((0, SIZE, SIZE, 3), np.uint8))


def _pixels(image: AnyImage) -> Pixels:
    if isinstance(image, Image.Image):
        return to_pixels(image)
    if isinstance(image, str | Path):
        return decode(Path(image))
    if not isinstance(image, np.ndarray | Tensor):
        raise TypeError(f"expected a PIL image, an array, a tensor or a path, got {type(image).__name__}")
    values = _channels_last(image)
    if values.ndim < 2 or values.shape[2:] not in ((), (1,), (3,), (4,)) or 0 in values.shape:
        expected = "(C, H, W)" if isinstance(image, Tensor) else "(H, W, C) or (H, W)"
        raise ValueError(f"an image is {expected} with 1, 3 or 4 channels, got {tuple(image.shape)}")
    return to_pixels(Image.fromarray(_eight_bits(values[:, :, 0] if values.shape[2:] == (1,) else values)))


def _channels_last(image: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    if isinstance(image, np.ndarray):
        return image
    array: npt.NDArray[Any] = (image.float() if image.dtype == torch.bfloat16 else image).numpy(force=True)
    return np.moveaxis(array, -3, -1) if array.ndim > 2 else array
