"""The sums of a split during an epoch, and the score of a whole split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

CALIBRATION_BINS = 15  # as in Guo et al., arXiv 1706.04599


class SplitMetrics(Metric):
    """Mean loss and accuracy over all images of an epoch, summed on the device and read once at its end.

    Its sums are part of the checkpoint: an epoch that is resumed in the middle reports all of its images.
    """

    full_state_update = False
    loss_sum: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, zero in {"loss_sum": 0.0, "correct": 0, "count": 0}.items():
            self.add_state(name, torch.tensor(zero), dist_reduce_fx="sum", persistent=True)

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: its mean loss (), logits (B, C) and labels. No value is read back from the device.

        Labels are int64 (B,), or shares of the classes (B, C): right is then the class of the largest share.
        """
        if labels.ndim == 2:
            labels = labels.argmax(dim=1)
        if self.loss_sum.dtype != torch.float32:  # a precision such as bf16-true has cast it, and would round it
            self.loss_sum = self.loss_sum.float()
        self.loss_sum.add_(loss.detach(), alpha=len(labels))
        self.correct.add_((logits.detach().argmax(dim=1) == labels).sum())
        self.count.add_(len(labels))

    def compute(self) -> dict[str, float]:
        """`loss` (mean cross entropy) and `accuracy` (from 0 to 1) over all processes. Waits for the device."""
        return self.so_far()

    def so_far(self) -> dict[str, float]:
        """The same over this process alone, at any time. Waits for the device."""
        count = max(int(self.count), 1)
        return {"loss": float(self.loss_sum) / count, "accuracy": int(self.correct) / count}


@dataclass(frozen=True)
class Evaluation:
    """The score of one set of weights on one split. Shares are from 0 to 1, not in percent."""

    images: int
    correct: int
    loss: float  # mean cross entropy
    accuracy: float
    per_class_accuracy: dict[str, float]
    confusion_matrix: list[list[int]]  # [true class][predicted class]
    calibration_error: float  # expected calibration error, l1 norm, CALIBRATION_BINS bins


class Bin(NamedTuple):
    """The images whose predicted class has a probability within one of the equal parts of 0 to 1."""

    confidence: float  # the mean of these probabilities
    accuracy: float
    images: int


def reliability(logits: Tensor, labels: Tensor) -> list[Bin]:
    """The bins that have images, ascending, of logits (N, C) and int64 labels (N,).

    The calibration error is the mean of their gaps.
    """
    confidences, predicted = logits.softmax(dim=1).max(dim=1)
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1, dtype=confidences.dtype)
    numbers = (torch.bucketize(confidences, edges, right=True) - 1).clamp_(max=CALIBRATION_BINS - 1)
    correct = (predicted == labels).double()
    members = [numbers == number for number in numbers.unique()]  # in ascending order
    return [
        Bin(float(confidences[chosen].double().mean()), float(correct[chosen].mean()), int(chosen.sum()))
        for chosen in members
    ]


def evaluate(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> Evaluation:
    """Scores a whole split at once: float logits (N, C), int64 labels (N,) and the names of the C classes."""
    confusion = multiclass_confusion_matrix(logits, labels, num_classes=len(class_names))
    correct = int(confusion.diagonal().sum())
    # A class without images has no accuracy, and NaN is not JSON: it is left out.
    per_class = {
        name: int(confusion[index, index]) / int(confusion[index].sum())
        for index, name in enumerate(class_names)
        if confusion[index].sum() > 0
    }
    return Evaluation(
        images=len(labels),
        correct=correct,
        loss=float(F.cross_entropy(logits, labels)),
        accuracy=correct / len(labels),
        per_class_accuracy=per_class,
        confusion_matrix=confusion.tolist(),
        calibration_error=float(
            multiclass_calibration_error(logits.softmax(dim=1), labels, len(class_names), n_bins=CALIBRATION_BINS)
        ),
    )
