"""benchmarks/race.py: what its points are, and that its picture shows them."""

import pytest
from benchmark_scripts import load


def test_seconds_add_up_over_the_epochs_and_belong_to_their_accuracy() -> None:
    rows = [{"epoch": 1.0, "train_loss": 2.0, "val_accuracy": 0.3}, {"epoch": 2.0, "val_accuracy": 0.5}]
    timings = [{"epoch": 1.0, "train_s": 4.0, "val_s": 9.0}, {"epoch": 2.0, "train_s": 2.5, "val_s": 9.0}]
    assert load("race").points(rows, timings) == [
        {"epoch": 1.0, "train_s": 4.0, "val_accuracy": 0.3},
        {"epoch": 2.0, "train_s": 6.5, "val_accuracy": 0.5},
    ]
    with pytest.raises(ValueError, match="shorter"):
        load("race").points(rows, timings[:1])


def test_the_picture_has_a_line_per_system_on_a_log_axis() -> None:
    result = {
        "hardware": {"threads": 2, "cpu": "a CPU"},
        "precision": "32-true",
        "epochs": [
            {"epoch": 1.0, "train_s": 4.0, "val_accuracy": 0.3},
            {"epoch": 2.0, "train_s": 60.5, "val_accuracy": 0.512},
        ],
    }
    (axes,) = load("race").draw({"cpu78": result, "final": result}).axes
    assert axes.get_xscale() == "log"
    assert [line.get_xdata().tolist() for line in axes.lines] == [[4.0, 60.5]] * 2
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.3, 0.512]] * 2
    first, second = [text.get_text() for text in axes.get_legend().get_texts()]
    assert first == "cpu78: 51.2% after 60 s (2 threads of a CPU, 32-true)"
    assert second.startswith("final: ")
