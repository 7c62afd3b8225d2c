"""A trained checkpoint in use: `Predictor`, and the verbs `predict`, `export` and `demo`. Nothing here trains."""

from cifar_lightning.inference.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
