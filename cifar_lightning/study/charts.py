"""The page's two figures that show pictures of the data set: samples of each class, and the worst mistakes."""

import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.errors import DataError
from cifar_lightning.runs import figures
from cifar_lightning.study.page import FIGURES, dark
from cifar_lightning.study.store import FoundRun

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


WIDTH = 4.7  # inches: small, so that letters stay readable where a phone shrinks the chart
LABELS = {"train_loss": "training loss", "train_accuracy": "training accuracy"}

Table = dict[str, Any]
Draw = Callable[[Table, Theme], bytes]


def draw(table: Table) -> dict[str, bytes]:
    """Every chart that the table has figures for, by file name, each in both themes."""
    charts: dict[str, Draw] = {}
    with_curves = [system for system in table["systems"] if system["curves"]]
    if with_curves:
        charts["loss.svg"] = lambda table, theme: all_curves(table, theme, "train_loss")
        charts["accuracy.svg"] = lambda table, theme: all_curves(table, theme, "train_accuracy")
    for system in with_curves:
        charts[f"curve-{system['name']}.svg"] = _one_system(system["name"])
    if any("test_accuracy" in system["metrics"] for system in table["systems"]):
        charts["test-accuracy.svg"] = accuracies
    if table["confusion"]:
        charts["confusion.svg"] = confusion
    files: dict[str, bytes] = {}
    for name, chart in charts.items():
        for theme in THEMES:
            files[name if theme is LIGHT else dark(name)] = chart(table, theme)
    return files


def all_curves(table: Table, theme: Theme, metric: str) -> bytes:
    """One metric of every system against the epoch: the mean over its seeds, and a band from least to greatest."""
    drawn = sum(metric in system["curves"] for system in table["systems"])
    figure, axes = new_figure(theme, WIDTH, 3.4 + 0.175 * drawn)
    for index, system in enumerate(table["systems"]):
        if points := system["curves"].get(metric):
            colour = theme.systems[index % len(theme.systems)]
            style = "-" if system["name"] == table["reference"] else ("-", "--", "-.")[index % 3]
            width = 2.4 if system["name"] == table["reference"] else 1.4
            _plot(axes, points, colour, style, width, f"{system['title']} (n = {system['n']})")
    _finish_curve(axes, metric)
    legend = figure.legend(loc="outside lower left", fontsize=8.5, frameon=False, handlelength=3, labelspacing=0.25)
    for text in legend.get_texts():
        text.set_color(theme.text)
    return as_svg(figure)


def _one_system(name: str) -> Draw:
    return lambda table, theme: one_system(table, theme, name)


def one_system(table: Table, theme: Theme, name: str) -> bytes:
    """A system's loss, of training and, where it has a validation split, of validation; the reference in grey."""
    figure, axes = new_figure(theme, WIDTH, 2.9)
    system = next(system for system in table["systems"] if system["name"] == name)
    reference = next(system for system in table["systems"] if system["name"] == table["reference"])
    if name != table["reference"] and "train_loss" in reference["curves"]:
        _plot(axes, reference["curves"]["train_loss"], theme.muted, "-", 1.2, f"training, {reference['title']}")
    _plot(axes, system["curves"]["train_loss"], theme.accent, "-", 1.8, "training")
    if "val_loss" in system["curves"]:
        _plot(axes, system["curves"]["val_loss"], theme.second, "-", 1.8, "validation")
    axes.set_title(f"{system['title']}, n = {system['n']}", loc="left", color=theme.text, fontsize=10.5)
    _finish_curve(axes, "train_loss", "loss")
    axes.legend(fontsize=8.5, frameon=False, labelcolor=theme.text)
    return as_svg(figure)


def accuracies(table: Table, theme: Theme) -> bytes:
    """Each run's test accuracy as a dot, each system's mean with its interval, and the numbers that claims state."""
    systems = [system for system in table["systems"] if "test_accuracy" in system["metrics"]]
    figure, axes = new_figure(theme, WIDTH, 0.46 * len(systems) + 1.3)
    stated = {
        check["systems"][0]: check["value"]
        for claim in table["claims"]
        for check in claim["checks"]
        if check["kind"] == "number" and check["metric"] == "test_accuracy"
    }
    seen: set[str] = set()

    def once(label: str) -> str:
        if label in seen:
            return "_" + label  # matplotlib leaves such a label out of the legend
        seen.add(label)
        return label

    for row, system in enumerate(systems):
        result = system["metrics"]["test_accuracy"]
        if result["low"] is not None:
            axes.plot(
                (result["low"], result["high"]), (row, row), color=theme.accent, linewidth=5, alpha=0.35,
                solid_capstyle="butt", label=once("95% interval of the mean"),
            )  # fmt: skip
        axes.plot(result["values"], [row] * result["n"], "o", color=theme.accent, markersize=4.5, label=once("one run"))
        if result["n"] > 1:
            axes.plot(result["mean"], row, "|", color=theme.text, markersize=13, markeredgewidth=2, label=once("mean"))
        if system["name"] in stated:
            axes.plot(
                stated[system["name"]], row, "D", color=theme.stated, markersize=6, fillstyle="none",
                markeredgewidth=1.6, label=once("the stated number"),
            )  # fmt: skip
        # The name stands above its row and not beside it, which would leave half of a phone's width.
        axes.text(
            0.01, row - 0.22, f"{system['title']} (n = {system['n']})", transform=axes.get_yaxis_transform(),
            color=theme.text, fontsize=9, va="bottom",
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(len(systems) - 0.5, -0.9)
    axes.set_xlabel("test accuracy at the final epoch")
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    legend = figure.legend(loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set_color(theme.text)
    return as_svg(figure)


def confusion(table: Table, theme: Theme) -> bytes:
    """Rows are true classes; each cell is the share of its row in percent."""
    counts, names = np.asarray(table["confusion"]["counts"]), table["confusion"]["classes"]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(theme, WIDTH, 4.6)
    axes.grid(False)
    axes.imshow(shares, cmap="Blues" if theme is LIGHT else "Blues_r", vmin=0, vmax=1)
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=40, ha="right")
    axes.set_yticks(ticks, names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title("share of the true class, in percent", loc="left", color=theme.text, fontsize=10.5)
    for row in ticks:
        for column in ticks:
            is_strong = shares[row, column] > 0.5
            colour = "white" if is_strong == (theme is LIGHT) else "black"
            text = f"{shares[row, column] * 100:.0f}" if counts[row, column] else ""
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    return as_svg(figure)


def _plot(axes: Axes, points: Sequence[dict[str, float]], colour: str, style: str, width: float, label: str) -> None:
    epochs = [point["epoch"] for point in points]
    if any(point["most"] > point["least"] for point in points):
        low, high = [point["least"] for point in points], [point["most"] for point in points]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.22, linewidth=0)
    marker = "o" if len(points) == 1 else ""  # a single epoch is a point, which a line alone would not show
    axes.plot(
        epochs, [point["mean"] for point in points], color=colour, linestyle=style, linewidth=width, marker=marker,
        markersize=4, label=label,
    )  # fmt: skip


def _finish_curve(axes: Axes, metric: str, label: str = "") -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(label or LABELS[metric])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric.endswith("accuracy"):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


LARGEST_BYTES = 300_000  # what a repository should hold of one picture
SAMPLES_PER_CLASS = 6


def draw_photographs(config: dict[str, Any], shown: FoundRun | None, published: Path | None) -> dict[str, bytes]:
    """`samples.png` and `mistakes.png`, as far as they can be had.

    Args:
        config: the reference's resolved configuration: which data set it is and where.
        shown: the run whose mistakes are shown.
        published: a published study's folder, which holds the pictures for a machine without data set or run folder.
    """
    files = {}
    if (samples := _samples(config["data"])) is not None:
        files["samples.png"] = samples
    if shown is not None and shown.mistakes is not None:
        files["mistakes.png"] = shrink(shown.mistakes.read_bytes())
    if published is not None:
        for name in ("samples.png", "mistakes.png"):
            path = published / FIGURES / name
            if name not in files and path.is_file() and (name != "mistakes.png" or shown is not None):
                files[name] = path.read_bytes()
    return files


def shrink(png: bytes, largest: int = LARGEST_BYTES) -> bytes:
    """The picture in fewer colours, and if need be with fewer pixels, if it is larger than `largest` bytes."""
    smaller = png
    for parts, colours in itertools.product((1, 2, 4, 8), (256, 64, 16)):
        if len(smaller) <= largest:
            break
        image = Image.open(io.BytesIO(png)).convert("RGB")
        image = image.resize((max(image.width // parts, 1), max(image.height // parts, 1)))
        buffer = io.BytesIO()
        image.quantize(colours).save(buffer, format="png", optimize=True)
        smaller = buffer.getvalue()
    return smaller


def _samples(settings: dict[str, Any]) -> bytes | None:
    """None where the data set is not on this machine: nothing is downloaded for a picture."""
    data = CIFAR10DataModule(root=settings["root"], synthetic=settings["synthetic"], val_size=0)
    try:
        data.setup("fit")
    except DataError:
        return None
    return shrink(_png(figures.sample_grid(*data.images_of("train"), data.class_names, SAMPLES_PER_CLASS)))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
