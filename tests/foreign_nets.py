"""Nets as other packages have them: functions that say what they give, or do not, and hand flags on by **kwargs."""

from typing import Any

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """A convolution, batch norm over the whole image, a dense layer; on a single image batch norm fails in training."""

    def __init__(self, width: int = 4, num_classes: int = 1000, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 5, stride=5, bias=bias)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.BatchNorm1d(width)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.norm(self.pool(self.conv(images)).flatten(1)))


class Compiled(Small):
    """The same, a part of which goes through torch.compile; no run of it is made."""

    def __init__(self) -> None:
        super().__init__(num_classes=10)
        self.conv = torch.compile(self.conv)  # type: ignore[assignment]


class Large(Small):
    """Takes images of 64x64 alone."""

    def forward(self, images: Tensor) -> Tensor:
        torch._assert(images.shape[2] == 64, f"expected 64, got {images.shape[2]}")
        return super().forward(images)


class Several(Small):
    """Two outputs in training, as googlenet."""

    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


def small(width: int = 4, **kwargs: Any):  # type: ignore[no-untyped-def]
    settings = {"width": width, **kwargs}
    return Small(**settings)
