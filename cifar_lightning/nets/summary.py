"""The output shape and parameter count after every layer of a net."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerRow:
    """One layer: its name, what it is made of, its output without the batch dimension, its parameters."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class LayerTable:
    """The layers of a net in the order in which they run, what leaves the net, and all of its parameters."""

    rows: list[LayerRow]
    output_shape: tuple[int, ...]
    parameters: int


def layer_table(net: nn.Module) -> LayerTable:
    """Runs one black image through `net` and notes what leaves each of its layers.

    Layers are the direct children of the net; a net with a single container as its child shows that one's children.
    The net is as it was afterwards: mode, weights and batch norm statistics.
    """
    layers = dict(net.named_children())
    while len(layers) == 1 and list((only := next(iter(layers.values()))).children()):
        layers = dict(only.named_children())
    rows: list[LayerRow] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
            rows.append(LayerRow(name, _kind(layer), shape, _parameters(layer)))

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            output = net(torch.zeros(1, 3, 32, 32))
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return LayerTable(rows, tuple(output.shape[1:]), _parameters(net))


class NotOneTensorError(TypeError):
    """A net gives something else, which the message names."""


def check_training(net: nn.Module, images: int, side: int = 32) -> None:
    """Runs black images (images, 3, side, side) through a copy of `net` as in training; global random state stays.

    Raises:
        NotOneTensorError: it gives several outputs.
        Exception: whatever the net does at such a batch.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        output = copy.deepcopy(net).train()(torch.zeros(images, 3, side, side))
    if not isinstance(output, Tensor):
        raise NotOneTensorError(f"a {type(output).__name__}")


def as_markdown(table: LayerTable) -> str:
    """The table as Markdown, with the number of all parameters under it."""
    lines = ["| layer | made of | output | parameters |", "|---|---|---|--:|"]
    lines += [
        f"| {row.name} | {row.kind} | {shape_text(row.output_shape)} | {row.parameters:,} |" for row in table.rows
    ]
    return "\n".join([*lines, f"| **all** | | | **{table.parameters:,}** |"])


def shape_text(shape: Sequence[int]) -> str:
    """An output shape as the report writes it: `32x16x16`."""
    return "x".join(map(str, shape))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _kind(layer: nn.Module) -> str:
    leaves = [module for module in layer.modules() if not list(module.children())]
    if len(leaves) > 5:  # a deep block: its class says more than the list of its leaves
        return type(layer).__name__
    return ", ".join(_leaf_kind(leaf) for leaf in leaves)


def _leaf_kind(leaf: nn.Module) -> str:
    name = type(leaf).__name__
    if isinstance(leaf, nn.Conv2d):
        return f"{name} {leaf.kernel_size[0]}x{leaf.kernel_size[1]}"
    if isinstance(leaf, nn.Dropout):
        return f"{name} {leaf.p:g}"
    return name
