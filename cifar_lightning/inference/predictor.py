"""Predictor: images in, a typed Prediction for each out. Behind `predict`, `export`, `demo` and for Python."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from torch import Tensor

from cifar_lightning.config.flags import LOGS
from cifar_lightning.data.transforms import Normalize
from cifar_lightning.errors import ConfigError
from cifar_lightning.inference.loading import Trained, load_trained
from cifar_lightning.inference.preprocess import AnyImage, to_batch
from cifar_lightning.nets.tta import TTA, Views, averaged_logits
from cifar_lightning.runs import calibration, environment, run_dir


@dataclass(frozen=True)
class Prediction:
    """The probability of every class for one image."""

    probabilities: tuple[float, ...]  # from 0 to 1, one for each class, together 1
    class_names: tuple[str, ...]  # in the same order

    @property
    def class_index(self) -> int:
        """The label of the most likely class."""
        return self.probabilities.index(max(self.probabilities))

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
        named = zip(self.class_names, self.probabilities, strict=True)
        return sorted(named, key=lambda entry: -entry[1])[:k]


class Predictor:
    """Classifies images with the weights of a checkpoint, exactly as `test` scores them.

    Args:
        trained: the net; it is moved to the device.
        accelerator: 'auto', 'cpu' or 'gpu'.
        precision: one of the Trainer's; None is that of the checkpoint's run.
        views: test-time augmentation; off by default.
        is_calibrated: use the temperature that `test --calibrate` has stored for these weights, where it has.

    Raises:
        ConfigError: there is no such GPU or precision.
        CheckpointError: the stored temperature cannot be read.
    """

    def __init__(
        self,
        trained: Trained,
        *,
        accelerator: str = "auto",
        precision: str | None = None,
        views: Views = "none",
        is_calibrated: bool = True,
    ) -> None:
        self.trained = trained
        self.device = torch.device(environment.accelerator_of(accelerator))
        self.precision = precision or str(trained.config["trainer"]["precision"])
        self.tta = TTA(views)
        self.temperature = calibration.stored(trained.path, trained.sha256, str(self.tta)) if is_calibrated else None
        # As many as `test` takes at once: how images are grouped can move the last digits of a result.
        self.batch_size = int(trained.config["data"]["eval_batch_size"])
        self._normalize = Normalize(trained.dataset).to(self.device)
        self._plugin = _plugin(self.precision, self.device)
        self._model = self._plugin.convert_module(trained.model.to(self.device))

    @classmethod
    def load(
        cls, ckpt: str | Path, *, logs: str | Path = LOGS, trusted: Collection[str] = (), **settings: Any
    ) -> "Predictor":
        """Reads a checkpoint, without running any code that it may hold.

        Args:
            ckpt: a file's path, 'pretrained', or 'best' or 'last' of the newest run in `logs`.
            logs: where the runs are.
            trusted: full names of classes from outside of the package that the checkpoint may import.
            settings: accelerator, precision, views and is_calibrated, as above.

        Raises:
            CheckpointError: there is none, or it cannot be used.
            ConfigError: there is no such GPU or precision.
        """
        return cls(load_trained(run_dir.find_checkpoint(str(ckpt), Path(logs)), trusted), **settings)

    @classmethod
    def pretrained(cls, **settings: Any) -> "Predictor":
        """The trained weights in the package, which their card describes; `settings` are those of `load`."""
        return cls.load("pretrained", **settings)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self.trained.class_names

    def __call__(self, images: AnyImage | Iterable[AnyImage]) -> list[Prediction]:
        """Classifies images of any size, in their order; a single one gives a list of one.

        Args:
            images: PIL images, arrays (H, W, C), tensors (C, H, W) or paths; `preprocess.to_batch` says what they hold.

        Raises:
            ValueError: a shape or a value is out of range.
            TypeError: something else than an image.
            ImageError: one cannot be decoded.
        """
        return list(self.predictions(to_batch(images)))

    def predictions(self, images: Tensor) -> Iterator[Prediction]:
        """Classifies uint8 images (N, 32, 32, 3), `batch_size` at a time."""
        for batch in images.split(self.batch_size):
            for row in self.probabilities(batch).tolist():
                yield Prediction(tuple(row), self.class_names)

    def probabilities(self, images: Tensor) -> Tensor:
        """The probabilities float32 (N, C), on the CPU, of one batch of uint8 images (N, 32, 32, 3)."""
        return (self.logits(images) / (self.temperature or 1.0)).softmax(dim=1).cpu()

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """The logits float32 (N, C) of one batch of uint8 images (N, 32, 32, 3), before any temperature."""
        # Channels lie last in memory already, so the permuted view is channels_last without a copy.
        inputs = self._plugin.convert_input(self._normalize(images.to(self.device)).permute(0, 3, 1, 2))
        with self._plugin.forward_context():
            return averaged_logits(self._model, inputs, self.tta)


def _plugin(precision: str, device: torch.device) -> Precision:
    name = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}.get(precision, precision)
    if name == "32-true":
        return Precision()
    if name == "64-true":
        return DoublePrecision()
    if name == "bf16-mixed" or (name == "16-mixed" and device.type != "cpu"):
        return MixedPrecision(name, device.type)  # type: ignore[arg-type]
    if name in ("bf16-true", "16-true"):
        return HalfPrecision(name)  # type: ignore[arg-type]
    raise ConfigError(f"precision {precision} is not known for {device.type} here; give --trainer.precision 32-true")
