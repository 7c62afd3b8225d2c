"""argv read once: which checkpoint, which --config files, which flags; and in what order they count.

Later beats earlier: the defaults, the checkpoint's configuration, each --config in turn, then the flags, wherever they
stand. Where one of these layers names another net, optimizer or scheduler than the layers before it, that class starts
from its own defaults. jsonargparse would carry over every argument whose name fits.
"""

import argparse
import copy
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from cifar_lightning.config.recipes import find_recipe
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs.settings import NEUTRAL_FLAGS, setting

CLASS_SETTINGS = ("model.net", "model.optimizer", "model.scheduler")
NAME_LENGTH = 60  # of a run's recipe; beyond it the name of a folder is no longer read

Layer = dict[str, Any]  # nested settings, as a YAML file holds them


@dataclass
class Invocation:
    """What a user typed behind a verb.

    Args:
        ckpt: what --ckpt names, 'last' where it stands alone; None where it is not given.
        configs: the --config files in their order.
        flags: everything else, in its order.
    """

    ckpt: str | None
    configs: list[Path]
    flags: list[str]
    layers: list[Layer] = field(default_factory=list)  # what the files hold

    @classmethod
    def read(cls, arguments: list[str]) -> "Invocation":
        """Splits argv and reads every file that --config names. Raises ConfigError where one of them is wrong."""
        for argument in arguments:  # all of them go into run.json, which is UTF-8
            if any("\ud800" <= letter <= "\udfff" for letter in argument):
                raise ConfigError(f"the argument {argument} is no UTF-8 here; PYTHONUTF8=1 may let Python read it so")
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        parser.add_argument("--ckpt", nargs="?", const="last")
        parser.add_argument("-c", "--config", action="append", default=[])
        try:
            known, flags = parser.parse_known_args(arguments)
        except argparse.ArgumentError as error:
            raise ConfigError(str(error)) from error
        configs = [find_recipe(name) for name in known.config]
        return cls(known.ckpt, configs, flags, [_read_layer(path) for path in configs])

    def last(self, name: str) -> Any:
        """The value of a setting that the flags, or else the last file that has it, give; None where none does."""
        if given := values_of(self.flags, f"--{name}"):
            return given[-1]
        return next((value for layer in reversed(self.layers) if (value := setting(layer, name)) is not None), None)

    def named_classes(self) -> set[str]:
        """The settings whose class is named here, so that the default's arguments do not apply."""
        return {key for key in CLASS_SETTINGS if any(_class_named(layer, key) for layer in self._with_flags())}

    def class_of(self, key: str) -> str:
        """The last class that is named for a setting; an empty string where none is."""
        return next((name for layer in reversed(self._with_flags()) if (name := _class_named(layer, key))), "")

    def arguments(self) -> list[str]:
        """argv for the parser: the layers in their order, the classes that flags name, then the flags."""
        layers = copy.deepcopy(self._with_flags())
        for key in CLASS_SETTINGS:
            current = ""
            for index, layer in enumerate(layers):
                name = _class_named(layer, key)
                if name and current and not _is_same_class(name, current):
                    for earlier in layers[:index]:
                        (earlier.get("model") or {}).pop(key.removeprefix("model."), None)
                current = name or current
        files = [part for layer in layers if layer for part in ("--config", yaml.safe_dump(layer, sort_keys=False))]
        return [*files, *self.flags]

    def recipe(self, base: str) -> str:
        """The name of what is trained: the first --config's stem, or else `base`, and what the flags change of it."""
        name = self.configs[0].stem if self.configs else base
        changes: dict[str, str] = {}  # by flag, the last value that was given
        for argument, after in pairwise([*self.flags, ""]):
            flag, joined, value = argument.partition("=")
            if flag.startswith("--") and flag not in NEUTRAL_FLAGS:
                changes[flag.lstrip("-")] = value if joined else after
        for key, value in changes.items():
            short = value.rpartition(".")[2] if key in CLASS_SETTINGS else value
            text = "".join(
                letter for letter in f"{key.rpartition('.')[2]}={short}" if letter.isalnum() or letter in "-._=,"
            )
            if len(name) + len(text) > NAME_LENGTH:
                return name.removesuffix("-etc") + "-etc"
            name += f"-{text}"
        return name

    def _with_flags(self) -> list[Layer]:
        named: Layer = {}
        for key in CLASS_SETTINGS:
            if values := values_of(self.flags, f"--{key}"):
                try:
                    content = yaml.safe_load(values[-1])  # a name, {class_path: ..., init_args: ...}, or null
                except yaml.YAMLError:
                    continue  # the parser says what is wrong
                content = {"class_path": content} if isinstance(content, str) else content
                named |= {key.removeprefix("model."): content} if isinstance(content, dict) else {}
        return [*self.layers, {"model": named} if named else {}]


def values_of(flags: list[str], name: str) -> list[str]:
    """What stands behind a flag, as `--flag value` or `--flag=value`, in its order."""
    values = []
    for argument, after in pairwise([*flags, ""]):
        flag, joined, value = argument.partition("=")
        if flag == name and (joined or after):
            values.append(value if joined else after)
    return values


def _read_layer(path: Path) -> Layer:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path} holds no settings; it should be a mapping such as `data: ...`")
    if "ckpt" in content:
        raise ConfigError(f"ckpt is a flag, not a setting: take it out of {path} and give --ckpt")
    return content


def _class_named(layer: Layer, key: str) -> str:
    value = setting(layer, key)
    return str(value.get("class_path") or "") if isinstance(value, dict) else str(value or "")


def _is_same_class(one: str, other: str) -> bool:
    """Whether two names mean one class; a bare name means the class of that name that flags find."""
    if "." in one and "." in other:
        return one == other
    return one.rpartition(".")[2] == other.rpartition(".")[2]
