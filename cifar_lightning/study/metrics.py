"""The metrics that a study compares: name, place in a run's record, and format."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from cifar_lightning.runs.record import RunFiles

UNKNOWN = "\N{EN DASH}"


@dataclass(frozen=True)
class Metric:
    """One figure of a run, at its final epoch."""

    title: str
    read: Callable[[RunFiles], float | None]
    pattern: str  # a format specification
    unit: str = ""
    scale: float = 1.0  # what the value is multiplied by before it is written
    depends_on_machine: bool = False

    def show(self, value: float | None, sign: str = "") -> str:
        """A value as text with its unit; `sign` is '+' for a difference. An unknown one is a dash."""
        return UNKNOWN if value is None else f"{value * self.scale:{sign}{self.pattern}}{self.unit}"

    def show_difference(self, value: float | None) -> str:
        """A difference: that of two shares is in percentage points."""
        text = self.show(value, "+")
        return text.replace("%", " points") if self.unit == "%" else text

    def show_summary(self, mean: float, sd: float | None, low: float | None, high: float | None) -> str:
        """`78.08% ± 0.35 (77.20 to 78.96)`; of one run, which has no spread, the value alone."""
        text = self.show(mean)
        return text if sd is None else f"{text} ± {sd * self.scale:{self.pattern}} ({self.range(low, high)})"

    def range(self, low: float | None, high: float | None, sign: str = "") -> str:
        """`77.92 to 78.54`, without units; empty where there is no interval."""
        if low is None or high is None:
            return ""
        return f"{low * self.scale:{sign}{self.pattern}} to {high * self.scale:{sign}{self.pattern}}"


def _figure(part: str, name: str) -> Callable[[RunFiles], float | None]:
    return lambda content: content.run.metrics.get(part, {}).get(name)


def _images_per_second(content: RunFiles) -> float | None:
    """The median over the epochs: a disturbed epoch does not move it."""
    rates = [row["images_per_second"] for row in content.timings if "images_per_second" in row]
    return median(rates) if rates else None


METRICS = {
    "test_accuracy": Metric("test accuracy", _figure("test", "accuracy"), ".2f", "%", 100),
    "test_loss": Metric("test loss", _figure("test", "loss"), ".4f"),
    "train_accuracy": Metric("training accuracy", _figure("last_epoch", "train_accuracy"), ".2f", "%", 100),
    "train_loss": Metric("training loss", _figure("last_epoch", "train_loss"), ".4f"),
    "val_accuracy": Metric("validation accuracy", _figure("last_epoch", "val_accuracy"), ".2f", "%", 100),
    "val_loss": Metric("validation loss", _figure("last_epoch", "val_loss"), ".4f"),
    "images_per_second": Metric("images per second", _images_per_second, ",.0f", depends_on_machine=True),
    "train_s": Metric(
        "training time", lambda content: content.run.timings["train_s"], ",.0f", " s", depends_on_machine=True
    ),
}
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
