"""Epoch sums and whole-split scores, against sums done by hand."""

import math

import pytest
import torch

from cifar_lightning.metrics import SplitMetrics, evaluate


def test_epoch_sums_weigh_images_and_not_batches() -> None:
    metrics = SplitMetrics()
    logits = torch.eye(3)
    metrics.update(torch.tensor(1.0), logits, torch.tensor([0, 1, 0]))  # 2 of 3 right
    metrics.update(torch.tensor(5.0), logits[:1], torch.tensor([2]))  # 0 of 1
    assert metrics.compute() == {"loss": (3 * 1.0 + 5.0) / 4, "accuracy": 2 / 4}
    metrics.reset()
    metrics.update(torch.tensor(2.0), logits[:1], torch.tensor([0]))
    assert metrics.compute() == {"loss": 2.0, "accuracy": 1.0}


def test_of_mixed_images_the_class_of_the_largest_share_is_right() -> None:
    metrics = SplitMetrics()
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.6, 0.4, 0.0], [0.0, 0.45, 0.55]])
    metrics.update(torch.tensor(1.0), torch.eye(3), shares)
    assert metrics.compute() == {"loss": 1.0, "accuracy": 2 / 3}


def test_the_sums_travel_in_a_checkpoint() -> None:
    metrics, restored = SplitMetrics(), SplitMetrics()
    metrics.update(torch.tensor(1.5), torch.eye(2), torch.tensor([0, 0]))
    restored.load_state_dict(metrics.state_dict())
    restored.update(torch.tensor(0.5), torch.eye(2), torch.tensor([0, 1]))
    assert restored.compute() == {"loss": 1.0, "accuracy": 3 / 4}


def test_evaluate() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    found = evaluate(probabilities.log(), labels, ["cat", "dog"])
    assert found.images == 4
    assert found.correct == 3
    assert found.accuracy == 0.75
    assert found.per_class_accuracy == {"cat": 2 / 3, "dog": 1.0}
    assert found.confusion_matrix == [[2, 1], [0, 1]]
    assert found.loss == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.4) + math.log(0.7)) / 4)
    # Four confidences in four bins of one image each: |1 - 0.9|, |1 - 0.8|, |0 - 0.6|, |1 - 0.7|, a quarter each.
    assert found.calibration_error == pytest.approx((0.1 + 0.2 + 0.6 + 0.3) / 4, abs=1e-6)


def test_a_class_without_images_has_no_accuracy() -> None:
    found = evaluate(torch.eye(3)[:2], torch.tensor([0, 1]), ["a", "b", "c"])
    assert found.per_class_accuracy == {"a": 1.0, "b": 1.0}


def test_the_sum_of_losses_is_not_rounded_by_a_low_precision() -> None:
    metrics = SplitMetrics().to(torch.bfloat16)
    for _ in range(2000):
        metrics.update(torch.tensor(1.0, dtype=torch.bfloat16), torch.eye(2), torch.tensor([0, 1]))
    assert metrics.compute()["loss"] == 1.0
