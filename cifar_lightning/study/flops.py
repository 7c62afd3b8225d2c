"""Floating point operations of a model, counted by torch on tensors without values: products and convolutions."""

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from cifar_lightning.classifier import Classifier, StartsFromImages


def count(model: Classifier, batch_size: int, side: int = 32) -> dict[str, float]:
    """Operations of what precedes the first step, of a step on `batch_size` images, and of one image's evaluation.

    All for images of `side` x `side` pixels.
    """
    model = model.to("meta").train()
    images = torch.empty(batch_size, 3, side, side, device="meta")
    labels = torch.empty(batch_size, dtype=torch.int64, device="meta")
    optimizer = model.build_optimizer()
    with FlopCounterMode(display=False) as start:
        if isinstance(model.net, StartsFromImages):
            model.net.start_from_images(images)
    with FlopCounterMode(display=False) as step:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    with FlopCounterMode(display=False) as evaluation, torch.no_grad():
        model.eval()(images)
    return {
        "start": float(start.get_total_flops()),
        "step": float(step.get_total_flops()),
        "evaluation_per_image": evaluation.get_total_flops() / batch_size,
    }
