"""The figures hold what they were given."""

import numpy as np
import pytest
import torch

from cifar_lightning.runs import figures


def test_sample_grid_shows_each_class_in_its_row() -> None:
    # Every image of class k is filled with the value 20 * k.
    labels = torch.tensor([1, 0, 1, 2, 0, 0])
    images = (labels * 20).to(torch.uint8)[:, None, None, None].expand(6, 32, 32, 3)
    figure = figures.sample_grid(images, labels, ["a", "b", "c"], per_class=2)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]
    sheet = np.asarray(axes.get_images()[0].get_array())
    centres = [[int(sheet[row * 36 + 16, column * 36 + 16, 0]) for column in range(2)] for row in range(3)]
    assert centres == [[0, 0], [20, 20], [40, 255]]  # class c has one image: the other place stays white
    assert [round(tick) for tick in axes.get_yticks()] == [16, 52, 88]


def test_curves_draw_both_splits_where_there_are_both() -> None:
    rows = [
        {"epoch": 1.0, "train_loss": 2.0, "train_accuracy": 0.1},
        {"epoch": 2.0, "train_loss": 1.0, "train_accuracy": 0.2},
    ]
    figure = figures.curves(rows, "title")
    assert [[list(line.get_ydata()) for line in axes.get_lines()] for axes in figure.axes] == [
        [[2.0, 1.0]],
        [[0.1, 0.2]],
    ]
    rows[1] |= {"val_loss": 1.5, "val_accuracy": 0.3}
    (loss, accuracy) = figures.curves(rows, "title").axes
    assert [line.get_label() for line in loss.get_lines()] == ["training", "validation"]
    assert list(accuracy.get_lines()[1].get_xdata()) == [2.0]


def test_the_accuracy_s_ticks_are_labelled_with_what_they_are() -> None:
    """Accuracies between 16 and 35% have ticks at every 2.5 points, which read 18, 20, 23, 25, 28 when rounded."""
    rows = [{"epoch": float(epoch), "train_loss": 2.0, "train_accuracy": 0.16 + epoch / 100} for epoch in range(20)]
    (_, accuracy) = figures.curves(rows, "title").axes
    low, high = accuracy.get_ylim()
    ticks = [tick for tick in accuracy.get_yticks() if low <= tick <= high]
    labels = accuracy.yaxis.get_major_formatter().format_ticks(ticks)
    assert {"17.5%", "20%", "22.5%"} <= set(labels)
    assert [float(label.rstrip("%")) for label in labels] == pytest.approx([100 * tick for tick in ticks])


def test_a_smoothed_loss_is_named_so_and_the_accuracy_is_not() -> None:
    rows = [{"epoch": 1.0, "train_loss": 2.0, "train_accuracy": 0.1, "val_loss": 1.5, "val_accuracy": 0.3}]
    labels = [[line.get_label() for line in axes.get_lines()] for axes in figures.curves(rows, "title", 0.2).axes]
    assert labels == [["training (targets smoothed by 0.2)", "validation"], ["training", "validation"]]


def test_worst_mistakes_come_worst_first_and_hold_mistakes_only() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    logits = torch.tensor([[9.0, 0.0], [1.0, 2.0], [8.0, 0.0], [0.0, 1.0]])  # 1 is wrong, 2 is wrong with certainty
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 32, 32, 3)
    figure = figures.worst_mistakes(images, labels, logits, ["cat", "dog"])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["dog\nas cat 100%", "cat\nas dog 73%"]
    sheet = np.asarray(axes.get_images()[0].get_array())
    assert (sheet[16, 16, 0], sheet[16, 46 + 16, 0]) == (2, 1)


def test_no_mistakes_is_an_empty_sheet() -> None:
    figure = figures.worst_mistakes(
        torch.zeros(1, 32, 32, 3, dtype=torch.uint8), torch.tensor([0]), torch.eye(2)[:1], ["a", "b"]
    )
    assert not figure.axes[0].texts


def test_confusion_shows_counts_and_shares_of_the_true_class() -> None:
    figure = figures.confusion([[3, 1], [0, 0]], ["a", "b"], "title")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0"]
    assert np.asarray(axes.get_images()[0].get_array()).tolist() == [[0.75, 0.25], [0, 0]]
