"""Prediction: what the net says of one picture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """The probability of every class for one picture.

    Args:
        probabilities: from 0 to 1, one for each class, together 1.
        class_names: in the same order.
    """

    probabilities: tuple[float, ...]
    class_names: tuple[str, ...]

    @property
    def class_index(self) -> int:
        """The label of the most likely class."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    @property
    def class_name(self) -> str:
        """The most likely class."""
        return self.class_names[self.class_index]

    @property
    def probability(self) -> float:
        """That of the most likely class."""
        return self.probabilities[self.class_index]

    def top(self, k: int) -> list[tuple[str, float]]:
        """The `k` most likely classes with their probabilities, the most likely first."""
        order = sorted(range(len(self.probabilities)), key=lambda index: -self.probabilities[index])
        return [(self.class_names[index], self.probabilities[index]) for index in order[:k]]
