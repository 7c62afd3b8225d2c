"""The output shape and parameter count after every layer of a net."""

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


def layer_table(net: nn.Module, image_shape: Sequence[int] = (3, 32, 32)) -> list[LayerRow]:
    """Runs one black image through `net` and notes what leaves each of its layers, in the order in which they run.

    Layers are the direct children of the net; a net with a single container as its child shows that one's children.
    The net is as it was afterwards: mode, weights and batch norm statistics.
    """
    layers = dict(net.named_children())
    while len(layers) == 1 and (only := next(iter(layers.values()))) and list(only.children()):
        layers = dict(only.named_children())
    rows: list[LayerRow] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            parameters = sum(parameter.numel() for parameter in layer.parameters())
            rows.append(LayerRow(name, _kind(layer), tuple(output.shape[1:]), parameters))

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            net(torch.zeros(1, *image_shape, device=next(net.parameters()).device))
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return rows


def as_markdown(rows: Sequence[LayerRow]) -> str:
    """The table as Markdown, with the sum of the parameters under it."""
    lines = ["| layer | made of | output | parameters |", "|---|---|---|--:|"]
    lines += [f"| {row.name} | {row.kind} | {shape_text(row)} | {row.parameters:,} |" for row in rows]
    return "\n".join([*lines, f"| **sum** | | | **{sum(row.parameters for row in rows):,}** |"])


def shape_text(row: LayerRow) -> str:
    """An output shape as the report writes it: `32x16x16`."""
    return "x".join(map(str, row.output_shape))


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
