"""A sheet of thumbnails: each picture as the net saw it, with its verdict, as one PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from cifar_lightning.files import write_bytes
from cifar_lightning.inference.picture import SIZE, Pixels
from cifar_lightning.inference.report import Row, printable

LIMIT = 500  # pictures on a sheet; a larger one is hard to open

_COLUMNS = 8
_SCALE = 4
_SIDE = _SCALE * SIZE
_CELL = (_SIDE + 22, _SIDE + 66)
_MARGIN, _LINE = 20, 20
_INK, _FAINT, _BAR, _TRACK, _WRONG = "#1a1d21", "#5f6771", "#1f6fb4", "#e4e7eb", "#b3261e"


def write_sheet(path: Path, rows: Sequence[Row], pixels: Sequence[Pixels], title: Sequence[str]) -> None:
    """Draws the sheet; at most `LIMIT` pictures, and a line above them says so where there are more.

    Args:
        path: replaced by the PNG.
        rows: those with a prediction, in their order.
        pixels: uint8 (32, 32, 3) of the first of them, as many as are drawn.
        title: the lines above everything.

    Raises:
        OutputError: it cannot be written.
    """
    shown = list(zip(rows, pixels[:LIMIT], strict=False))
    if len(shown) < len(rows):
        title = [*title, f"the first {len(shown):,} of {len(rows):,} pictures"]
    head = _MARGIN + _LINE * len(title) + 12
    columns = max(min(_COLUMNS, len(shown)), 4)
    height = -(-len(shown) // columns) * _CELL[1]
    sheet = Image.new("RGB", (2 * _MARGIN + columns * _CELL[0] - 22, head + height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for place, line in enumerate(title):
        shortened = _fitted(line, _font(12), sheet.width - 2 * _MARGIN)
        draw.text((_MARGIN, _MARGIN + place * _LINE), shortened, _FAINT, _font(12))
    for place, (row, picture) in enumerate(shown):
        down, across = divmod(place, columns)
        _cell(draw, sheet, (_MARGIN + across * _CELL[0], head + down * _CELL[1]), row, picture)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    write_bytes(path, stream.getvalue())


def _cell(draw: ImageDraw.ImageDraw, sheet: Image.Image, corner: tuple[int, int], row: Row, picture: Pixels) -> None:
    assert row.prediction is not None
    left, top = corner
    share, verdict = row.prediction.probability, row.prediction.class_name
    sheet.paste(Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.NEAREST), corner)
    below = top + _SIDE + 4
    draw.rectangle((left, below, left + _SIDE - 1, below + 3), _TRACK)
    draw.rectangle((left, below, left + max(round(share * _SIDE) - 1, 0), below + 3), _BAR)
    is_wrong = bool(row.label) and row.label != verdict
    draw.text((left, below + 8), f"{verdict} {share:.0%}", _WRONG if is_wrong else _INK, _font(14, bold=True))
    name = f"is {row.label}" if is_wrong else printable(Path(row.name).name)
    draw.text((left, below + 28), _fitted(name, _font(11), _SIDE), _FAINT, _font(11))


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib brings it along: the same letters on every machine, far beyond Latin ones.
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
