"""Which parameters an optimizer gets: the net's, in groups, or stand-ins to try it with."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

Group = dict[str, Any]


def grouped(net: nn.Module, head_lr: float | None, decay_vectors: bool) -> Iterable[nn.Parameter] | list[Group]:
    """The net's parameters, in groups where some have settings of their own.

    Args:
        net: whose last dense layer or convolution is its head.
        head_lr: the head's learning rate; None: that of all.
        decay_vectors: whether the weight decay is meant for biases and norms too.
    """
    if head_lr is None and decay_vectors:
        return net.parameters()
    layers = [module for module in net.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    head = set(layers[-1].parameters()) if layers and head_lr is not None else set()
    groups: dict[tuple[bool, bool], Group] = {}
    for parameter in net.parameters():
        is_head, decays = parameter in head, decay_vectors or parameter.ndim > 1
        settings = ({"lr": head_lr} if is_head else {}) | ({} if decays else {"weight_decay": 0.0})
        groups.setdefault((is_head, decays), {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def stand_ins(net: nn.Module, device: str) -> Iterator[nn.Parameter]:
    """A small parameter with a gradient for each number of dimensions that the net's have, laid out like them."""
    for parameter in {parameter.ndim: parameter for parameter in net.parameters()}.values():
        zeros = torch.zeros([2] * parameter.ndim, device=device)
        if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
            zeros = zeros.to(memory_format=torch.channels_last)
        stand_in = nn.Parameter(zeros)
        stand_in.grad = torch.zeros_like(zeros)
        yield stand_in
