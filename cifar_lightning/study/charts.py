"""The figures of a study's page: curves, accuracies, confusions, and images of the data set."""

import io
from collections.abc import Sequence
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
from cifar_lightning.runs.figures import TRAIN_COLOUR, VAL_COLOUR
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.page import FIGURES
from cifar_lightning.study.store import StoredRun

# Systems are told apart with every kind of colour vision, as far as so many can be.
COLOURS = (
    "#1f6fb4", "#d95f02", "#1b8a5a", "#8e4ec6", "#b8860b", "#c2185b", "#5a6b7b", "#0097a7", "#6d4c41", "#7cb342",
    "#3949ab", "#e57373",
)  # fmt: skip
REFERENCE_COLOUR, STATED_COLOUR = "#98a1b0", "#b3123f"
WIDTH = 4.7  # inches: small, so that letters stay readable where a phone shrinks the chart
LARGEST_BYTES = 300_000  # of one image: a repository keeps every version of it
SAMPLES_PER_CLASS = 6

Table = dict[str, Any]


def draw(table: Table) -> dict[str, bytes]:
    """Every chart that the table from `gather` has figures for, as SVG by file name."""
    charts = {}
    with_curves = [system for system in table["systems"] if system["curves"]]
    if with_curves:
        charts["loss.svg"] = all_curves(table, "train_loss")
        charts["accuracy.svg"] = all_curves(table, "train_accuracy")
    for system in with_curves:
        charts[f"curve-{system['name']}.svg"] = one_system(table, system)
    if any("test_accuracy" in system["metrics"] for system in table["systems"]):
        charts["test-accuracy.svg"] = accuracies(table)
    if table["confusion"]:
        counts = np.asarray(table["confusion"]["counts"])
        percent = np.rint(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(int)
        title = "share of the true class, in percent"
        charts["confusion.svg"] = figures.confusion(percent.tolist(), table["confusion"]["classes"], title)
    return {name: as_svg(figure) for name, figure in charts.items()}


def as_svg(figure: Figure) -> bytes:
    """The same figure gives the same bytes: no date and no random name, and no font of the reader's machine."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cifar_lightning", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def all_curves(table: Table, metric: str) -> Figure:
    """One metric of every system against the epoch: the mean over its seeds, and a band from least to greatest."""
    drawn = sum(metric in system["curves"] for system in table["systems"])
    figure, axes = new_figure(3.4 + 0.175 * drawn)
    for index, system in enumerate(table["systems"]):
        if points := system["curves"].get(metric):
            is_reference = system["name"] == table["reference"]
            style, width = ("-", 2.4) if is_reference else (("-", "--", "-.")[index % 3], 1.4)
            name = f"{system['title']} (n = {system['n']})"
            _plot(axes, points, COLOURS[index % len(COLOURS)], name, width, style)
    _label_epochs(axes, METRICS[metric].title)
    if metric.endswith("accuracy"):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure.legend(loc="outside lower left", fontsize=8.5, frameon=False, handlelength=3, labelspacing=0.25)
    return figure


def one_system(table: Table, system: dict[str, Any]) -> Figure:
    """A system's loss, of training and, where it has a validation split, of validation; the reference in grey."""
    figure, axes = new_figure(2.9)
    reference = next(other for other in table["systems"] if other["name"] == table["reference"])
    if system["name"] != reference["name"] and "train_loss" in reference["curves"]:
        _plot(axes, reference["curves"]["train_loss"], REFERENCE_COLOUR, f"training, {reference['title']}", 1.2)
    _plot(axes, system["curves"]["train_loss"], TRAIN_COLOUR, "training", 1.8)
    if "val_loss" in system["curves"]:
        _plot(axes, system["curves"]["val_loss"], VAL_COLOUR, "validation", 1.8)
    axes.set_title(f"{system['title']}, n = {system['n']}", loc="left", fontsize=10.5)
    _label_epochs(axes, "loss")
    axes.legend(fontsize=8.5, frameon=False)
    return figure


def accuracies(table: Table) -> Figure:
    """Each run's test accuracy as a dot, each system's mean with its interval, and the numbers that claims state."""
    systems = [system for system in table["systems"] if "test_accuracy" in system["metrics"]]
    checks = [check for claim in table["claims"] for check in claim["checks"]]
    figure, axes = new_figure(0.46 * len(systems) + 1.3)
    for row, system in enumerate(systems):
        result = system["metrics"]["test_accuracy"]
        if result["low"] is not None:
            interval = (result["low"], result["high"])
            axes.plot(interval, (row, row), color=TRAIN_COLOUR, linewidth=5, alpha=0.35, solid_capstyle="butt",
                      label="95% interval of the mean")  # fmt: skip
        axes.plot(result["values"], [row] * result["n"], "o", color=TRAIN_COLOUR, markersize=4.5, label="one run")
        if result["n"] > 1:
            axes.plot(result["mean"], row, "|", color="black", markersize=13, markeredgewidth=2, label="mean")
        for check in checks:
            if check["kind"] == "number" and check["metric"] == "test_accuracy" and system["name"] in check["systems"]:
                axes.plot(check["value"], row, "D", color=STATED_COLOUR, markersize=6, fillstyle="none",
                          markeredgewidth=1.6, label="the stated number")  # fmt: skip
        # The name stands above its row and not beside it, which would leave half of a phone's width.
        name = f"{system['title']} (n = {system['n']})"
        axes.text(0.01, row - 0.22, name, transform=axes.get_yaxis_transform(), fontsize=9, va="bottom")
    axes.set_yticks([])
    axes.set_ylim(len(systems) - 0.5, -0.9)
    axes.set_xlim(max(axes.get_xlim()[0], 0.0), min(axes.get_xlim()[1], 1.0))  # intervals may reach beyond
    axes.set_xlabel("test accuracy at the final epoch")
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    return figure


def new_figure(height: float) -> tuple[Figure, Axes]:
    """An empty chart of this height in inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _plot(
    axes: Axes, points: Sequence[dict[str, float]], colour: str, label: str, width: float, style: str = "-"
) -> None:
    epochs = [point["epoch"] for point in points]
    low, high = [point["least"] for point in points], [point["most"] for point in points]
    if low != high:
        axes.fill_between(epochs, low, high, color=colour, alpha=0.22, linewidth=0)
    marker = "o" if len(points) == 1 else ""  # a single epoch is a point, which a line alone would not show
    means = [point["mean"] for point in points]
    axes.plot(epochs, means, color=colour, linestyle=style, linewidth=width, marker=marker, markersize=4, label=label)


def _label_epochs(axes: Axes, label: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def sample_images(config: dict[str, Any], shown: StoredRun | None, published: Path | None) -> dict[str, bytes]:
    """`samples.png` and `mistakes.png`, as far as they can be had.

    Args:
        config: the reference's resolved configuration: which data set it is and where.
        shown: the run whose mistakes are shown.
        published: a published study's folder, which holds both for a machine without data set or run folder.
    """
    names = ("samples.png", "mistakes.png") if shown is not None else ("samples.png",)
    paths = [published / FIGURES / name for name in names] if published is not None else []
    files = {path.name: path.read_bytes() for path in paths if path.is_file()}
    if shown is not None and (mistakes := shown.file("mistakes.png")):
        files["mistakes.png"] = shrink(mistakes.read_bytes())
    settings = {"source": "official", "dataset": "cifar10"} | config["data"]
    data = CIFAR10DataModule(settings["root"], source=settings["source"], dataset=settings["dataset"], val_size=0)
    try:
        data.setup("fit")
    except DataError:  # it is not on this machine, and nothing is downloaded for a figure
        return files
    buffer = io.BytesIO()
    grid = figures.sample_grid(*data.images_of("train"), data.class_names, SAMPLES_PER_CLASS)
    grid.savefig(buffer, format="png", metadata={"Software": None})
    return files | {"samples.png": shrink(buffer.getvalue())}


def shrink(png: bytes) -> bytes:
    """The image in 256 colours if it is larger than a repository should hold."""
    if len(png) <= LARGEST_BYTES:
        return png
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
