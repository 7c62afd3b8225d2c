"""A trained checkpoint in use: `Predictor` for Python, and the verbs `predict`, `export` and `demo`."""

from cifar_lightning.inference.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
