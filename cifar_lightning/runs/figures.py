"""The figures: sample images, learning curves, confusion matrix, worst mistakes. Data in, matplotlib Figure out."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cifar_lightning.metrics import CALIBRATION_BINS, Bin
from cifar_lightning.runs.atomic import write_bytes

TRAIN_COLOUR, VAL_COLOUR = "#1f6fb4", "#d95f02"  # told apart with every kind of colour vision

MISTAKES_ACROSS, MISTAKES_DOWN = 8, 4

Row = Mapping[str, float]


def save(figure: Figure, path: Path) -> None:
    """Replaces the PNG file `path` at once; raises OutputError as `write_bytes` does."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_bytes(path, content.getbuffer())


def sample_grid(images: Tensor, labels: Tensor, class_names: Sequence[str], per_class: int = 8) -> Figure:
    """A row of `per_class` images for each class, the first ones of uint8 (N, 32, 32, 3) with int64 labels (N,)."""
    rows = [images[labels == label][:per_class] for label in range(len(class_names))]
    figure = Figure(figsize=(per_class * 0.75 + 1.4, len(class_names) * 0.75), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(_montage(rows, per_class, gap=(4, 4)))
    _no_frame(axes)
    axes.set_yticks([row * 36 + 16 for row in range(len(class_names))], class_names, fontsize=11)
    axes.tick_params(length=0)
    return figure


def curves(rows: Sequence[Row], title: str, label_smoothing: float = 0.0) -> Figure:
    """Loss and accuracy against the epoch, training and (where there is one) validation in one chart each.

    Each of `rows` has `epoch`, `train_loss`, `train_accuracy` and perhaps `val_loss`, `val_accuracy`. The
    `label_smoothing` of the training's loss is said beside its curve.
    """
    smoothed = f"training (targets smoothed by {label_smoothing:g})" if label_smoothing else "training"
    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        training = smoothed if name == "loss" else "training"
        for split, label, colour in (("train", training, TRAIN_COLOUR), ("val", "validation", VAL_COLOUR)):
            points = [(row["epoch"], row[f"{split}_{name}"]) for row in rows if f"{split}_{name}" in row]
            if points:
                # A single epoch is a point, which a line alone would not show.
                axes.plot(*zip(*points, strict=True), color=colour, label=label, marker="o", markersize=3)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss (cross entropy)" if name == "loss" else "accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
        if name == "accuracy":
            axes.yaxis.set_major_formatter(_percent)
    return figure


def confusion(matrix: Sequence[Sequence[int]], class_names: Sequence[str], title: str) -> Figure:
    """The confusion matrix: rows are true classes, columns predictions, each cell a share of its row and a count.

    Of more than 20 classes the counts are left out: they would be too small to read, and take seconds to draw.
    """
    is_crowded = len(class_names) > 20
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(16, 15) if is_crowded else (8, 7), dpi=100, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=90 if is_crowded else 40, ha="center" if is_crowded else "right")
    axes.set_yticks(ticks, class_names)
    if is_crowded:
        axes.tick_params(labelsize=7)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=11)
    for row in () if is_crowded else ticks:
        for column in ticks:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axes, label="share of the true class", format="{x:.0%}")
    return figure


def worst_mistakes(images: Tensor, labels: Tensor, logits: Tensor, class_names: Sequence[str]) -> Figure:
    """The wrongly classified images of highest loss, worst first, each with its true and its predicted class.

    Args:
        images: uint8 (N, 32, 32, 3), in the order of `labels` and `logits`.
        labels: int64 (N,).
        logits: float (N, C).
        class_names: C names.
    """
    columns, rows = MISTAKES_ACROSS, MISTAKES_DOWN
    probabilities = logits.softmax(dim=1)
    predicted = logits.argmax(dim=1)
    true_probability = probabilities.gather(1, labels[:, None]).flatten()
    wrong = (predicted != labels).nonzero().flatten()
    worst = wrong[true_probability[wrong].argsort(stable=True)][: columns * rows].tolist()
    picked = images[worst]
    figure = Figure(figsize=(columns * 1.35, rows * 1.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    # Room for two lines of text above each image and for long class names between two.
    top, side = 17, 14
    axes.imshow(_montage([picked[row * columns : (row + 1) * columns] for row in range(rows)], columns, (top, side)))
    axes.set_ylim(rows * (32 + top) - top - 0.5, -top)
    axes.set_xlim(-side / 2 - 0.5, columns * (32 + side) - side / 2 - 0.5)
    _no_frame(axes)
    axes.set_title("worst mistakes: the true class, taken as another with this probability", fontsize=10)
    for position, index in enumerate(worst):
        row, column = divmod(position, columns)
        guess = int(predicted[index])
        text = f"{class_names[int(labels[index])]}\nas {class_names[guess]} {probabilities[index, guess]:.0%}"
        axes.text(column * (32 + side) + 15.5, row * (32 + top) - 2, text, ha="center", va="bottom", fontsize=8)
    return figure


def reliability(charts: Mapping[str, Sequence[Bin]], title: str) -> Figure:
    """Reliability diagrams: the share that is right and the number of images in each bin of confidence.

    The bins in `charts` lie under the titles of their diagrams.
    """
    figure = Figure(figsize=(4.6 * len(charts), 5.4), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(2, len(charts), squeeze=False, sharex=True, height_ratios=(4, 1))
    for column, (name, bins) in enumerate(charts.items()):
        upper, lower = grid[:, column]
        confidences = [item.confidence for item in bins]
        upper.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="as sure as right")
        upper.plot(confidences, [item.accuracy for item in bins], color=TRAIN_COLOUR, marker="o", markersize=4)
        upper.set_title(name, fontsize=10)
        upper.set_ylabel("share that is right")
        upper.grid(alpha=0.3)
        upper.legend(loc="upper left")
        # Each mark stands at the mean of its bin, and so does its bar.
        lower.bar(confidences, [item.images for item in bins], width=0.8 / CALIBRATION_BINS, color=TRAIN_COLOUR)
        lower.set_ylabel("images")
        lower.set_xlabel("probability of the verdict")
        for axis in (upper.xaxis, upper.yaxis):
            axis.set_major_formatter(_percent)
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
    return figure


def _montage(rows: Sequence[Tensor], columns: int, gap: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Images uint8 (n, 32, 32, 3) of each row on one white sheet (H, W, 3), `gap` pixels apart (down, across).

    One sheet is drawn much sooner than a matplotlib axes for each image.
    """
    down, across = 32 + gap[0], 32 + gap[1]
    sheet = np.full((len(rows) * down - gap[0], columns * across - gap[1], 3), 255, dtype=np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images.numpy()):
            sheet[row * down : row * down + 32, column * across : column * across + 32] = image
    return sheet


def _percent(share: float, position: int | None) -> str:
    """A tick's label with as many digits as it needs: 17.5%, 20%."""
    return f"{100 * share:g}%"


def _no_frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
