"""Temperature scaling: a number by which a checkpoint's logits are divided to make its probabilities believable.

Guo et al., arXiv 1706.04599. It changes no verdict, since the order of an image's logits stays. It is fitted on the
validation split and lies beside the checkpoint, in a file whose name holds the checkpoint's digest: weights that were
trained further have another digest, and never meet a temperature that is not theirs.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from cifar_lightning.errors import CheckpointError, OutputError
from cifar_lightning.metrics import evaluate
from cifar_lightning.runs.atomic import write_json

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of least cross entropy, `LOWEST` to `HIGHEST`, of logits (N, C) and int64 labels (N,)."""
    values = logits.double()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(values / math.exp(log_temperature), labels))

    # The loss is convex in the inverse of the temperature, so it has one minimum.
    bounds = (math.log(LOWEST), math.log(HIGHEST))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x)


def fit(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """The temperature of a split, with its loss and calibration error before and after, for `store`."""
    temperature = fit_temperature(logits, labels)
    before, after = (evaluate(values, labels, class_names) for values in (logits, logits / temperature))
    return {
        "temperature": temperature,
        "loss_before": before.loss,
        "loss_after": after.loss,
        "calibration_error_before": before.calibration_error,
        "calibration_error_after": after.calibration_error,
    }


def path_for(checkpoint: Path, sha256: str) -> Path:
    """Where the temperatures of these very weights lie, if there are any."""
    return checkpoint.with_name(f"{checkpoint.stem}.temperature-{sha256[:12]}.json")


def store(checkpoint: Path, sha256: str, fits: Mapping[str, Mapping[str, float]], fitted_on: str) -> Path:
    """Writes the temperatures of a checkpoint, and removes those of weights that its file held before.

    Args:
        checkpoint: the file.
        sha256: its digest when the weights were read that the temperatures are of.
        fits: by the name of the views (`str(TTA)`; 'none' is the image alone), each with its `temperature` and what
            it did on the validation split.
        fitted_on: in words.

    Raises OutputError: the folder cannot be written.
    """
    path = path_for(checkpoint, sha256)
    fits = {**_fits(path, sha256), **fits}
    write_json(path, {"checkpoint": checkpoint.name, "sha256": sha256, "fitted_on": fitted_on, "fits": fits})
    for old in stale(checkpoint, sha256):
        try:
            old.unlink()
        except OSError as error:
            raise OutputError(
                f"{old} belongs to weights that are gone, and cannot be removed: {error.strerror}"
            ) from error
    return path


def stored(checkpoint: Path, sha256: str, views: str) -> float | None:
    """The temperature of a checkpoint for these views, None where there is none. Raises CheckpointError if damaged."""
    fit = _fits(path_for(checkpoint, sha256), sha256).get(views)
    return float(fit["temperature"]) if fit else None


def stale(checkpoint: Path, sha256: str) -> list[Path]:
    """The files of temperatures that belong to weights which this checkpoint's file held before."""
    marker, own = f"{checkpoint.stem}.temperature-", path_for(checkpoint, sha256).name
    folder = checkpoint.parent
    return sorted(path for path in folder.iterdir() if path.name.startswith(marker) and path.name != own)


def _fits(path: Path, sha256: str) -> dict[str, Any]:
    """By the name of the views, as `store` has written them; empty where there is no file."""
    fix = "remove it, and fit anew with test --calibrate"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        fits: dict[str, Any] = content["fits"]
        is_whole = content["sha256"] == sha256
        is_whole = is_whole and all(LOWEST <= float(fit["temperature"]) <= HIGHEST for fit in fits.values())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; {fix}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise CheckpointError(f"{path} is damaged; {fix}")
    return fits
