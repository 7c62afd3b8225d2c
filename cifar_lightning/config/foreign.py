"""Nets from elsewhere, such as torchvision's and timm's: their flags, their number of classes, their weights."""

import argparse
import copy
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import nn

from cifar_lightning.config.invocation import Invocation
from cifar_lightning.errors import ConfigError, DataError
from cifar_lightning.runs.checkpoint import TRUSTED_MODULES
from cifar_lightning.runs.settings import setting

LIBRARIES = ("torchvision", "timm")  # whose `weights` and `pretrained` mean trained ones
GROUPS = ("init_args", "dict_kwargs")  # where a configuration holds a net's arguments: those that are known, others


@dataclass(frozen=True)
class ForeignNet:
    """A class, or a function that gives a net, by its full name."""

    name: str
    make: Callable[..., nn.Module]
    arguments: frozenset[str]  # those that its source tells
    takes_more: bool  # **kwargs that go where the source does not tell

    @classmethod
    def find(cls, name: str) -> "ForeignNet | None":
        """What a full name means; None for a net of this package, and where there is no such thing.

        A function that does not say what it gives is taken to give a net, if it is none of a library that a checkpoint
        may name by itself.
        """
        package = name.partition(".")[0]
        if "." not in name or package == "cifar_lightning":
            return None
        if package == "timm" and importlib.util.find_spec("timm") is None:
            raise ConfigError(f"model.net: {name} needs timm: install the extra with pip install -e '.[timm]'")
        module, _, attribute = name.rpartition(".")
        try:
            # Of a module and a function of one name, as torchvision.models.googlenet is both, the function.
            make = getattr(pkgutil.resolve_name(module), attribute, None) or pkgutil.resolve_name(name)
        except (ImportError, AttributeError, ValueError):
            return None
        if inspect.isfunction(make) and "return" not in make.__annotations__ and package not in TRUSTED_MODULES:
            make.__annotations__["return"] = nn.Module
        if not callable(make):
            return None
        arguments = arguments_of(make)
        own = inspect.signature(make).parameters
        is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values())
        return cls(name, make, arguments, is_open and (package == "timm" or arguments <= own.keys()))

    @property
    def classes_group(self) -> str | None:
        """Which group of arguments `num_classes` belongs to; None where the net does not take it."""
        if "num_classes" in self.arguments:
            return "init_args"
        return "dict_kwargs" if self.takes_more and self.name.startswith(LIBRARIES) else None

    def route(self, invocation: Invocation) -> None:
        """Puts what only **kwargs take, in flags and in files, where the parser looks for it."""
        invocation.flags = [self._flag(argument) for argument in invocation.flags]
        for layer in invocation.layers:
            net = setting(layer, "model.net")
            if self.takes_more and isinstance(net, dict) and isinstance(given := net.get("init_args"), dict):
                others = {name: given.pop(name) for name in given.keys() - self.arguments}
                net["dict_kwargs"] = {**others, **(net.get("dict_kwargs") or {})}

    def describe(self) -> str:
        """The text of `--model.net.help NAME`."""
        about = " ".join((inspect.getdoc(self.make) or "").partition("\n\n")[0].split())
        parser = ArgumentParser(usage=argparse.SUPPRESS, add_help=False, description=f"{self.name}: {about}")
        _add(parser, self.make)
        given = self.make.__annotations__.get("return") if self.takes_more and inspect.isfunction(self.make) else None
        if inspect.isclass(given) and given is not nn.Module:
            _add(parser, given, skip=set(self.arguments))
        more = "\nIt hands other flags on to what it calls.\n" if self.takes_more else ""
        return parser.format_help() + more

    def _flag(self, argument: str) -> str:
        name = argument.removeprefix("--model.net.").partition("=")[0].partition(".")[0]
        is_other = self.takes_more and argument.startswith("--model.net.") and name not in self.arguments
        if not is_other or name in (*GROUPS, "help", "class_path"):
            return argument
        return argument.replace("--model.net.", "--model.net.dict_kwargs.", 1)


def arguments_of(make: Callable[..., Any]) -> frozenset[str]:
    """The names of every argument that the source of a class or function tells of."""
    return frozenset(_add(ArgumentParser(exit_on_error=False), make))


def build(settings: dict[str, Any]) -> nn.Module:
    """The net of a configuration: `class_path` with its arguments. Raises whatever is wrong with it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=nn.Module)
    net: nn.Module = parser.instantiate(parser.parse_object({"net": settings})).net
    return net


def untrained(settings: Any) -> Any:
    """The settings of the same net without trained weights; the very same object where it asks for none."""
    found = [
        (group, name) for group in GROUPS for name in ("weights", "pretrained") if (settings.get(group) or {}).get(name)
    ]
    if not found or not str(settings["class_path"]).startswith(LIBRARIES):
        return settings
    settings = copy.deepcopy(settings)
    for group, name in found:
        settings[group][name] = None if name == "weights" else False
    return settings


def load_weights(net: nn.Module, settings: dict[str, Any], num_classes: int) -> list[str]:
    """Gives a net the trained weights that its settings ask for, except where those are for other classes.

    Args:
        net: built of `untrained(settings)`.
        settings: `class_path` with its arguments.
        num_classes: of the net's last layer.

    Returns the names of the parameters that stay as they were.

    Raises:
        DataError: the weights cannot be had.
        ConfigError: they belong to another architecture.
    """
    settings = copy.deepcopy(settings)
    for group in GROUPS:  # the weights have classes of their own
        (settings.get(group) or {}).pop("num_classes", None)
    name, ours = settings["class_path"], net.state_dict()
    try:
        with torch.random.fork_rng(devices=[]):
            theirs = build(settings).state_dict()
    except Exception as error:  # of the network, of a hub, of a file: each library has its own
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"the trained weights of {name} cannot be had: {reason}; without them: leave out the flag"
        ) from error
    kept = [key for key, value in ours.items() if key not in theirs or theirs[key].shape != value.shape]
    for key in kept:
        if key not in theirs or theirs[key].shape[1:] != ours[key].shape[1:] or len(ours[key]) != num_classes:
            raise ConfigError(f"model.net: the trained weights of {name} do not fit these arguments: {key} differs")
    with torch.no_grad():
        for key in ours.keys() - set(kept):
            ours[key].copy_(theirs[key])
    return kept


def _add(parser: ArgumentParser, make: Callable[..., Any], skip: Set[str] = frozenset()) -> list[str]:
    """Adds every argument that a source tells of, and returns their names."""
    add: Any = parser.add_class_arguments if inspect.isclass(make) else parser.add_function_arguments
    return [name.removeprefix("model.net.") for name in add(make, "model.net", as_group=False, skip=set(skip))]
