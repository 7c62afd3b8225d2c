"""The figures of a search's page, in the style of a study's."""

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cifar_lightning.runs.figures import TRAIN_COLOUR, VAL_COLOUR
from cifar_lightning.study.charts import REFERENCE_COLOUR, as_svg, new_figure
from cifar_lightning.study.metrics import METRICS

Table = dict[str, Any]


def draw(table: Table) -> dict[str, bytes]:
    """Every chart that the table from `gather` has figures for, as SVG by file name."""
    figures = dict[str, Figure]()
    if any(trial["value"] is not None for trial in table["trials"]):
        figures |= {"history.svg": history(table), "epochs.svg": epochs(table), "parallel.svg": parallel(table)}
    if table["importances"]:
        figures["importances.svg"] = importances(table)
    return {name: as_svg(figure) for name, figure in figures.items()}


def history(table: Table) -> Figure:
    """The objective of each trial in their order, and the best so far."""
    figure, axes = new_figure(3.0)
    finished = [trial for trial in table["trials"] if trial["status"] == "finished"]
    others = [trial for trial in table["trials"] if trial["status"] == "pruned" and trial["value"] is not None]
    for trials, marker, name in ((finished, "o", "finished"), (others, "x", "pruned, at its last epoch")):
        if trials:
            points = [[trial[key] for trial in trials] for key in ("number", "value")]
            axes.plot(*points, marker, color=TRAIN_COLOUR, markersize=4.5, label=name)
    best = np.maximum.accumulate if table["is_better_higher"] else np.minimum.accumulate
    if finished:
        numbers = [trial["number"] for trial in finished]
        values = best([trial["value"] for trial in finished])
        axes.step(numbers, values, where="post", color=VAL_COLOUR, label="the best so far")
    if table["base"]:
        axes.axhline(table["base"]["value"], color=REFERENCE_COLOUR, linestyle="--", linewidth=1.2, label="the base")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(axes, table)
    figure.legend(loc="outside lower left", ncols=2, fontsize=8.5, frameon=False)
    return figure


def epochs(table: Table) -> Figure:
    """The objective of each trial against the epoch; a pruned one ends in a cross."""
    figure, axes = new_figure(3.0)
    for trial in table["trials"]:
        if trial["curve"]:
            is_best = table["best"] is not None and trial["number"] == table["best"]["number"]
            colour, width = (VAL_COLOUR, 2.2) if is_best else (REFERENCE_COLOUR, 1.0)
            points = zip(*trial["curve"], strict=True)
            axes.plot(*points, ".-", color=colour, linewidth=width, zorder=3 if is_best else 2)
            if trial["status"] == "pruned":
                axes.plot(*trial["curve"][-1], "x", color=TRAIN_COLOUR, markersize=5)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(axes, table)
    return figure


def importances(table: Table) -> Figure:
    """The share of each flag, the largest on top."""
    names = list(table["importances"])[::-1]
    figure, axes = new_figure(0.34 * len(names) + 0.8)
    axes.barh(names, [table["importances"][name] for name in names], color=TRAIN_COLOUR)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.tick_params(axis="y", labelsize=8)
    return figure


def parallel(table: Table) -> Figure:
    """A line for each trial through its values: an axis a flag, the better the darker."""
    trials = [trial for trial in table["trials"] if trial["value"] is not None]
    best = table["best"]["number"] if table["best"] else None
    # The best is drawn last, over all others.
    trials.sort(key=lambda trial: trial["value"], reverse=not table["is_better_higher"])
    trials.sort(key=lambda trial: trial["number"] == best)
    figure, axes = new_figure(4.2)
    axes.grid(False)
    heights = np.empty((len(trials), len(table["space"])))
    for column, entry in enumerate(table["space"]):
        flag, labels = entry["flag"], entry["choices"]
        values = [trial["params"][flag] for trial in trials]
        if labels:
            places = [float(labels.index(value)) for value in values]
            ends: dict[float, str] = dict(enumerate(labels))
        else:
            places = [math.log(value) for value in values] if table["is_log"][flag] else values
            ends = {min(places): f"{min(values):.3g}", max(places): f"{max(values):.3g}"}
        low, span = min(ends), (max(ends) - min(ends)) or 1
        heights[:, column] = (np.asarray(places) - low) / span
        axes.axvline(column, color="black", linewidth=0.8)
        for place, text in ends.items():
            axes.text(column + 0.03, (place - low) / span, text[:14], fontsize=7, va="bottom", zorder=4)
    colours = colormaps["Blues"](np.linspace(0.25, 1, len(trials)))
    for row, trial, colour in zip(heights, trials, colours, strict=True):
        style, is_best = "--" if trial["status"] == "pruned" else "-", trial["number"] == best
        axes.plot(row, style, color=VAL_COLOUR if is_best else colour, linewidth=2 if is_best else 0.9)
    names = [entry["flag"].removeprefix("model.").removeprefix("data.") for entry in table["space"]]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=7.5)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(names) - 0.6)
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def _label(axes: Axes, table: Table) -> None:
    axes.set_ylabel(METRICS[table["objective"]].title)
    if table["objective"] == "val_accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
