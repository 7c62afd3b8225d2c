"""Test-time augmentation: an image's logits averaged over several views of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Views = Literal["none", "flip", "flip_translate"]


@dataclass(frozen=True)
class TTA:
    """Which views of an image are averaged; by default its only view is itself.

    Args:
        views: 'flip' adds the mirror image; 'flip_translate' adds to these, with half of the weight, both moved by one
            pixel up and left and by one pixel down and right (Jordan, arXiv 2404.00498).
        below: only images whose most likely class has a probability of at most this are looked at again; 1 means all.
            Sure images then cost nothing more.

    Raises ValueError: a value is out of range.
    """

    views: Views = "none"
    below: float = 1.0

    def __post_init__(self) -> None:
        if self.views not in (known := get_args(Views)):
            raise ValueError(f"model.tta.views must be one of {', '.join(known)}, got {self.views!r}")
        if not 0 < self.below <= 1:
            raise ValueError(f"model.tta.below must be above 0 and at most 1, got {self.below}")

    def __str__(self) -> str:
        """As it is named beside a figure: `flip`, or `flip below 0.9`."""
        return self.views + (f" below {self.below:g}" if self.below < 1 else "")


def averaged_logits(net: Callable[[Tensor], Tensor], images: Tensor, tta: TTA) -> Tensor:
    """The logits (N, C) of images (N, 3, H, W), averaged over their views.

    Args:
        net: maps images to logits, without dependence between the images of a batch.
        images: normalised.
        tta: the views. With `below` under 1 the device is waited for, once.
    """
    logits = net(images)
    if tta.views == "none":
        return logits
    if tta.below == 1:
        return _averaged(net, images, logits, tta.views)
    chosen = torch.nonzero(logits.softmax(dim=1).amax(dim=1) <= tta.below).flatten()
    if not len(chosen):
        return logits
    unsure = images[chosen].contiguous(memory_format=torch.channels_last)
    average = _averaged(net, unsure, logits[chosen], tta.views)
    return logits.index_copy(0, chosen, average.to(logits.dtype))


def _averaged(net: Callable[[Tensor], Tensor], images: Tensor, logits: Tensor, views: Views) -> Tensor:
    """The average over the views of every image, of which `logits` are those of the image itself."""
    average = (logits + net(images.flip(3))) / 2
    if views == "flip_translate":
        height, width = images.shape[2:]
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        corners = (padded[:, :, :height, :width], padded[:, :, 2:, 2:])
        moved = [view.contiguous(memory_format=torch.channels_last) for view in corners]
        average = average / 2 + sum(net(view) + net(view.flip(3)) for view in moved) / 8
    return average
