"""The page's charts from the study's table. Data in, files out: an SVG for light pages and one for dark ones."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cifar_lightning.study.report import dark
from cifar_lightning.study.theme import LIGHT, THEMES, Theme, as_svg, new_figure

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
