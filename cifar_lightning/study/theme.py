"""The two looks of a figure, on a light and on a dark page, and matplotlib figures as SVG that is always the same."""

import io
import re
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BETWEEN_TAGS = re.compile(rb">\s+<")
LONG_FRACTION = re.compile(rb"(\.\d{3})\d+")


@dataclass(frozen=True)
class Theme:
    """Colours of a page. `systems` are told apart with every kind of colour vision, as far as so many can be."""

    name: str
    text: str
    grid: str
    muted: str
    accent: str
    second: str
    stated: str
    background: str
    systems: tuple[str, ...]


LIGHT = Theme(
    "light", "#1c2330", "#d5dae2", "#98a1b0", "#1f6fb4", "#d95f02", "#b3123f", "#ffffff",
    ("#1f6fb4", "#d95f02", "#1b8a5a", "#8e4ec6", "#b8860b", "#c2185b", "#5a6b7b", "#0097a7", "#6d4c41", "#7cb342",
     "#3949ab", "#e57373"),
)  # fmt: skip
DARK = Theme(
    "dark", "#e6e9ef", "#3a4250", "#7d8797", "#6cb4f0", "#ff9f55", "#ff7a9c", "#171b22",
    ("#6cb4f0", "#ff9f55", "#5fd0a0", "#c59bf0", "#e6c04d", "#f57fb0", "#a9b7c6", "#4dd0e1", "#c9a393", "#b5dd7a",
     "#9fa8f5", "#f2a0a0"),
)  # fmt: skip
THEMES = (LIGHT, DARK)


def new_figure(theme: Theme, width: float, height: float) -> tuple[Figure, Axes]:
    """An empty chart of `width` x `height` inches in the theme's colours, on a transparent ground."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=theme.text, labelsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(theme.text)
        axis.label.set_fontsize(10)
    for name, spine in axes.spines.items():
        spine.set_color(theme.muted)
        spine.set_visible(name in ("left", "bottom"))
    axes.grid(color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def as_svg(figure: Figure) -> bytes:
    """The figure as SVG with its letters as outlines: no font of the reader's machine, no date, no random name."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cifar_lightning", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    # A thousandth of a point is finer than any screen; indentation is for nobody either.
    return BETWEEN_TAGS.sub(b"><", LONG_FRACTION.sub(rb"\1", buffer.getvalue()))
