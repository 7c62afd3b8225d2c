"""Files of every kind as the net sees them."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from cifar_lightning.errors import ImageError
from cifar_lightning.inference import preprocess
from cifar_lightning.inference.preprocess import decode, to_pixels

COLOUR = (200, 120, 40)
CORNERS = ((250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 20))  # clockwise from the upper left


def saved(path: Path, image: Image.Image, **settings: Any) -> Path:
    image.save(path, **settings)
    return path


def plain(mode: str, size: tuple[int, int] = (50, 37)) -> Image.Image:
    image = Image.new("RGB", size, COLOUR)
    return image.quantize() if mode == "P" else image.convert(mode)


def corners(side: int = 64) -> Image.Image:
    """Each quarter in a colour of its own, so that no turn looks like another."""
    image, half = Image.new("RGB", (side, side)), side // 2
    for place, colour in zip(((0, 0), (half, 0), (half, half), (0, half)), CORNERS, strict=True):
        image.paste(colour, (*place, place[0] + half, place[1] + half))
    return image


GREY = round(0.299 * 200 + 0.587 * 120 + 0.114 * 40)


@pytest.mark.parametrize(("mode", "suffix", "expected"), [
    ("RGB", "png", COLOUR), ("RGB", "jpg", COLOUR), ("RGB", "bmp", COLOUR), ("RGB", "tiff", COLOUR),
    ("RGB", "webp", COLOUR), ("RGB", "ppm", COLOUR), ("RGB", "gif", COLOUR), ("RGB", "jp2", COLOUR),
    ("RGB", "avif", COLOUR), ("L", "png", (GREY,) * 3), ("L", "jpg", (GREY,) * 3), ("LA", "png", (GREY,) * 3),
    ("RGBA", "png", COLOUR), ("P", "png", COLOUR), ("CMYK", "jpg", COLOUR), ("YCbCr", "jpg", COLOUR),
    ("1", "png", None), ("L", "pgm", (GREY,) * 3), ("RGBA", "webp", COLOUR), ("CMYK", "tiff", COLOUR),
])  # fmt: skip
def test_every_kind_of_file(mode: str, suffix: str, expected: tuple[int, ...] | None, tmp_path: Path) -> None:
    feature = {"avif": "avif", "webp": "webp", "jp2": "jpg_2000"}.get(suffix)
    if feature and not features.check(feature):
        pytest.skip(f"this Pillow reads no {suffix}")
    pixels = decode(saved(tmp_path / f"a.{suffix}", plain(mode)))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    if expected is not None:
        assert np.abs(pixels.astype(int) - expected).max() <= 16  # a palette, a colour space, a lossy format


def test_32_by_32_keeps_its_pixels(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(decode(saved(tmp_path / "a.png", Image.fromarray(noise))), noise)


@pytest.mark.parametrize("size", [(90, 30), (30, 90), (91, 30), (300, 100), (1000, 333)])
def test_the_centre_square_counts(size: tuple[int, int], tmp_path: Path) -> None:
    image = Image.new("RGB", size, "red")
    side = min(size)
    corner = [(length - side) // 2 for length in size]
    image.paste("blue", (*corner, corner[0] + side + 1, corner[1] + side + 1))
    pixels = decode(saved(tmp_path / "a.png", image))
    assert (pixels[1:-1, 1:-1] == (0, 0, 255)).all()


@pytest.mark.parametrize("side", [96, 320, 1000])
def test_fine_patterns_become_grey_and_no_other_pattern(side: int, tmp_path: Path) -> None:
    board = np.indices((side, side)).sum(axis=0) % 2 * 255
    pixels = decode(saved(tmp_path / "a.png", Image.fromarray(board.astype(np.uint8))))
    assert np.abs(pixels[2:-2, 2:-2].astype(int) - 127).max() <= 6


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 16), (33, 31)])
def test_small_pictures_grow(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = decode(saved(tmp_path / "a.png", Image.new("RGB", size, COLOUR)))
    assert (pixels == COLOUR).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, suffix: str, tmp_path: Path) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = corners()
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    quality = {"quality": 100} if suffix in ("jpg", "webp") else {}
    pixels = decode(saved(tmp_path / f"a.{suffix}", stored, exif=exif, **quality))
    for (row, column), colour in zip(((8, 8), (8, 24), (24, 24), (24, 8)), CORNERS, strict=True):
        assert np.abs(pixels[row, column].astype(int) - colour).max() <= 24, (row, column)


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((640, 480))
    path = saved(tmp_path / "a.jpg", smooth, quality=95)
    sizes = []
    monkeypatch.setattr(preprocess, "to_pixels", lambda image: sizes.append(image.size) or to_pixels(image))
    pixels = decode(path)
    assert sizes == [(160, 120)]
    with Image.open(path) as image:
        assert np.abs(pixels.astype(int) - to_pixels(image)).max() <= 6


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
    image.paste((0, 0, 200, 255), (0, 0, 32, 64))
    pixels = decode(saved(tmp_path / "a.png", image))
    assert (pixels[:, :14] == (0, 0, 200)).all()
    assert (pixels[:, 18:] == 255).all()
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([10, 20, 30] + [0] * 765)
    assert (decode(saved(tmp_path / "b.png", palette, transparency=0)) == 255).all()
    assert (decode(saved(tmp_path / "c.gif", palette, transparency=0)) == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
@pytest.mark.parametrize(("value", "expected"), [(0, 0), (65535, 255), (257 * 90, 90), (257 * 90 + 129, 91)])
def test_16_bits_are_scaled_and_rounded(value: int, expected: int, suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.full((40, 40), value, dtype=np.uint16))
    assert (decode(saved(tmp_path / f"a.{suffix}", image)) == expected).all()


def test_32_bit_pixels_have_no_known_range(tmp_path: Path) -> None:
    for values in (np.full((40, 40), 0.5, dtype=np.float32), np.full((40, 40), 99, dtype=np.int32)):
        path = saved(tmp_path / "a.tiff", Image.fromarray(values))
        with pytest.raises(ImageError, match="32-bit pixels, whose range is not known"):
            decode(path)


def test_of_several_frames_the_first(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (decode(path) == (255, 0, 0)).all()


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header announces a size, with almost nothing behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (8193, 8192)])
def test_a_decompression_bomb_is_never_decoded(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(*size))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    with pytest.raises(ImageError, match=r"announces .*pixels; at most 67,108,864 are decoded"):
        decode(path)


def test_what_is_no_picture(tmp_path: Path) -> None:
    whole = io.BytesIO()
    corners().save(whole, "PNG")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    cases = {
        "text.png": (b"hello", "is no image in a format that is read"),
        "empty.jpg": (b"", "is no image"),
        "eps.png": (eps, "is no image"),  # Pillow would start Ghostscript
        "cut.png": (whole.getvalue()[:-60], "is damaged"),
        "short.png": (png_of(64, 64), "is damaged"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=reason):
            decode(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("folder.png", "pipe.png"):
        with pytest.raises(ImageError, match="is not a file"):
            decode(tmp_path / name)
    with pytest.raises(ImageError, match="No such file"):
        decode(tmp_path / "nowhere.png")
    monster = tmp_path / "large.png"
    monster.touch()
    os.truncate(monster, preprocess.MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(ImageError, match="bytes; at most"):
        decode(monster)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "JPEG2000", "PPM"])
def test_broken_bytes_are_a_picture_or_one_clear_error(kind: str) -> None:
    whole = io.BytesIO()
    corners(16).save(whole, kind)
    generator = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole.getvalue())
        for position in generator.integers(0, len(content), generator.integers(1, 4)):
            content[position] = generator.integers(256)
        try:
            outcome: object = decode(io.BytesIO(bytes(content))).shape
        except ImageError as error:
            outcome = "\n" in str(error)
        assert outcome in ((32, 32, 3), False)
