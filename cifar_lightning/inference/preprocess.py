"""Pictures in memory (PIL images, arrays, tensors) as one batch uint8 (N, 32, 32, 3)."""

import math
import stat
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cifar_lightning.errors import PictureError

Pixels = npt.NDArray[np.uint8]  # (32, 32, 3)

SIZE = 32  # CIFAR-10's height and width in pixels

# Read in the order of how common they are. Not all that Pillow knows: EPS would start another program, and some
# formats are recognised by nothing, so that any file would pass for one of them.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")

# What a header may announce. A small file can announce pixels that fill any memory: this is decided before decoding.
MAX_PIXELS = 2**26
MAX_BYTES = 2**29  # WebP and AVIF files are read into memory as a whole
# Pictures above this are decoded one after the other, so that memory does not grow with the number of threads.
LARGE_PIXELS = 2**24
_one_large = threading.Lock()

# A JPEG can be decoded at a half, a quarter or an eighth of its size for a part of the time. What is left is at least
# this many times as large as what is wanted, so that the anti-aliased resizing still decides how the result looks.
DRAFT_FACTOR = 2

ORIENTATION = 0x0112  # EXIF's tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@cache
def readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def suffixes() -> frozenset[str]:
    """The lower-case suffixes, with their point, of files in `readable_formats`."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable_formats())


def read_picture(path: Path) -> Pixels:
    """Decodes a picture file; of several frames or pages the first.

    Raises:
        PictureError: it is not there, is no picture, is damaged, or announces more than `MAX_PIXELS`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading from a pipe could wait for ever
            raise PictureError("is not a file")
        if status.st_size > MAX_BYTES:
            raise PictureError(f"has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return decode(path)
    except OSError as error:
        if error.strerror is None:  # Pillow's own, which say nothing of the system
            raise
        raise PictureError(f"cannot be read: {error.strerror}") from error


def decode(source: Path | BinaryIO) -> Pixels:
    """Decodes the bytes of a picture; of several frames or pages the first.

    Raises:
        PictureError: it is no picture, is damaged, or announces more than `MAX_PIXELS`.
        OSError: the system cannot read the file.
    """
    with _decoding(), Image.open(source, formats=readable_formats()) as image:
        width, height = _checked_size(image)
        if image.format in ("JPEG", "MPO") and (width, height) != (SIZE, SIZE):
            side = min(width, height) / (DRAFT_FACTOR * SIZE)
            image.draft(None, (math.ceil(width / side), math.ceil(height / side)))
        # A progressive JPEG fills memory by what it announces, however small it is decoded.
        is_large = max(image.width * image.height, width * height // 4) > LARGE_PIXELS
        with _one_large if is_large else nullcontext():
            return to_pixels(image)


def to_pixels(image: Image.Image) -> Pixels:
    """Reduces an opened picture of any mode and size.

    The largest centred square is taken, and resized with anti-aliasing (bicubic over the whole area that a new pixel
    covers) to 32x32; a picture of 32x32 keeps its pixels. EXIF's orientation is applied, grey becomes three equal
    channels, 16 bits become 8, and what is transparent shows white.

    Raises:
        PictureError: too many pixels, an unknown kind of pixel, or damaged data.
    """
    with _decoding():
        _checked_size(image)
        image.load()  # before the orientation is read: Pillow turns a TIFF while it loads, and others not
        orientation = image.getexif().get(ORIENTATION)
        colours = _eight_bits(image)
        has_alpha = colours.has_transparency_data
        mode = "RGBA" if has_alpha else "RGB"
        small = _centre(colours if colours.mode == mode else colours.convert(mode))
        if has_alpha:
            small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
        # After the resizing, where it costs nothing: the centre square of a turned picture is the turned square.
        if orientation in UPRIGHT:
            small = small.transpose(UPRIGHT[orientation])
        return np.array(small)


def _checked_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(f"announces {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are decoded")
    if not width or not height:
        raise PictureError("has no pixels")
    return width, height


def _centre(image: Image.Image) -> Image.Image:
    if image.size == (SIZE, SIZE):
        return image
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as 8, rounded; other modes as they are. Pillow's own conversion would cut off, not scale."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    # Pillow has the 16 bits of a PGM, and in older versions those of a PNG, in a mode that else means 32 bits.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PPM", "PNG")):
        raise PictureError("has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
    values = np.asarray(image)
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


@contextmanager
def _decoding() -> Iterator[None]:
    """Turns what Pillow raises into PictureError."""
    try:
        yield
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"is no picture in a format that is read ({', '.join(readable_formats())})") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, for pictures inside of others
        raise PictureError(f"announces too many pixels; at most {MAX_PIXELS:,} are decoded") from error
    except (struct.error, SyntaxError, EOFError) as error:  # whose texts speak of the decoder's inside
        raise PictureError("is damaged or cut off") from error
    except MemoryError as error:
        raise PictureError("needs more memory than there is") from error
    except OSError as error:
        if error.strerror is not None:
            raise
        raise PictureError(f"is damaged: {_line(error)}") from error
    except Exception as error:  # a decoder that meets broken data can stumble over anything
        raise PictureError(f"is damaged: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or "no message"


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
        return to_pixels(Image.fromarray(np.ascontiguousarray(_array_to_eight_bits(values))))
    raise TypeError(f"expected a PIL image, an array, a tensor or a path, got {type(picture).__name__}")


def _channels_last(picture: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    if isinstance(picture, Tensor):
        array: npt.NDArray[Any] = (picture.float() if picture.dtype == torch.bfloat16 else picture).numpy(force=True)
        return np.moveaxis(array, -3, -1) if array.ndim > 2 else array
    return picture


def _array_to_eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"a picture's values are uint8, uint16 or floats from 0 to 1, got {values.dtype}")
    if not (values.min() >= 0 and values.max() <= 1):  # NaN fails too
        raise ValueError(f"a picture's floats are from 0 to 1, got {values.min():g} to {values.max():g}")
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
