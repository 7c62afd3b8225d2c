"""The parser's complaints, which run over many lines, as one line with the right name."""

import inspect
import re
from importlib import import_module
from typing import Any

import torch
from lightning.pytorch.cli import LightningArgumentParser

from cifar_lightning import nets
from cifar_lightning.errors import ConfigError, did_you_mean
from cifar_lightning.optim import schedules


def explain(message: str, parser: LightningArgumentParser) -> ConfigError:
    """Rewrites one of jsonargparse's messages.

    Args:
        message: the text of its ArgumentError.
        parser: knows the names that exist.
    """
    text = " ".join(message.split())
    for pattern, rewrite in _REWRITES:
        if found := re.search(pattern, text):
            return ConfigError(rewrite(parser, *found.groups()))
    return ConfigError(text)


def _unrecognised(parser: LightningArgumentParser, arguments: str) -> str:
    first = arguments.split()[0]
    if not first.startswith("-"):
        return f"unexpected argument {first!r}; settings are given as --name value"
    name = first.lstrip("-").partition("=")[0]
    return f"unknown flag --{name}{_nearest(name, _known(parser), '--')}"


def _not_in_group(parser: LightningArgumentParser, group: str, option: str) -> str:
    return _unknown_setting(parser, f"{group}.{option}")


def _unknown_setting(parser: LightningArgumentParser, name: str) -> str:
    return f"unknown setting {name}{_nearest(name, _known(parser))}"


def _not_in_class(parser: LightningArgumentParser, key: str, class_path: str, option: str) -> str:
    module, _, name = class_path.rpartition(".")
    if module == "typing":  # no class is named, and the type allows several
        return f"{key}.{option} belongs to a class: name it first, as in --{key} ClassName"
    known = [f"{key}.{parameter}" for parameter in inspect.signature(getattr(import_module(module), name)).parameters]
    return f"unknown setting {key}.{option}: {name} does not take it{_nearest(f'{key}.{option}', known)}"


def _no_such_class(parser: LightningArgumentParser, key: str, name: str) -> str:
    homes: dict[str, list[Any]] = {
        "model.net": [getattr(nets, module) for module in dir(nets) if inspect.ismodule(getattr(nets, module))],
        "model.optimizer": [torch.optim],
        "model.scheduler": [torch.optim.lr_scheduler, schedules],
    }
    known = {found for home in homes.get(key, []) for found, _ in inspect.getmembers(home, inspect.isclass)}
    fix = "" if "." in name else "; a class of your own needs its module, as in my_module.MyClass"
    return f"{key}: there is no class {name!r}{did_you_mean(name, known) or fix}"


def _several_classes(parser: LightningArgumentParser, key: str, name: str, found: str) -> str:
    # Of torch's own kind and Lightning's, which adds what it watches, only the latter is of use here.
    lightnings = [class_path for class_path in found.split(", ") if class_path.startswith("lightning.")]
    return (
        f"{key}: several classes are called {name}; give --{key} {lightnings[0] if lightnings else f'one of {found}'}"
    )


def _missing_argument(parser: LightningArgumentParser, key: str, class_path: str, missing: str) -> str:
    return f"{key}: {class_path.rpartition('.')[2]} needs {missing}; give --{key}.{missing.split(',')[0]}"


def _not_a_group(parser: LightningArgumentParser, key: str, value: str) -> str:
    first = min(name for name in _known(parser) if name.startswith(f"{key}."))
    return f"{key}: expected settings such as --{first}, got {value!r}"


def _wrong_type(parser: LightningArgumentParser, key: str, expected: str, value: str) -> str:
    # Both spellings of one choice, '16' and 16, are one name here.
    choices = list(dict.fromkeys(re.findall(r"[\w.-]+", " ".join(re.findall(r"Literal\[(.*?)\]", expected)))))
    names = choices + re.findall(r"class '([\w.]+)'", expected) or [expected]
    allowed = " or ".join("null" if name == "NoneType" else name for name in names)
    return f"{key}: expected {allowed}, got {value!r}{did_you_mean(value, choices)}"


def _wrong_type_inside(parser: LightningArgumentParser, outer: str, inner: str, reason: str) -> str:
    """A value of a class's own argument: jsonargparse names the class's key and, further inside, the argument."""
    own = reason.partition(". Got value: Namespace(")[0]
    for pattern in (SUBTYPES, EXPECTED):
        if found := re.search(pattern, own):
            return _wrong_type(parser, f"{outer}.{inner}", *found.groups())
    return f"{outer}.{inner}: {own.strip()}"


SUBTYPES = r" Subtypes: \[(.*?)\] Errors: .*Given value: (.*)"
EXPECTED = r"Expected an? (.*?)\. Got value: (.*)"

# Tried in this order; the groups of a pattern are the arguments of its function.
_REWRITES = (
    (r"unrecognized arguments: (.*)", _unrecognised),
    (r"Group '([\w.]+)' does not accept option '([^']+)'", _not_in_group),
    (r"^Option '([\w.]+)' is not accepted", _unknown_setting),
    (
        r"Parser key \"([\w.]+)\": Problem with given class_path '([\w.]+)': Option '([^']+)' is not accepted",
        _not_in_class,
    ),
    (
        r"Parser key \"([\w.]+)\": .*Option '([^']+)' is not accepted\. Got value: Namespace\(class_path='([\w.]+)'",
        lambda parser, key, option, class_path: _not_in_class(parser, key, class_path, option),
    ),
    (r"Parser key \"([\w.]+)\": Unable to load config ['\"](.*?)['\"] - Parser key \"\1\": Unable", _not_a_group),
    (r"Parser key \"([\w.]+)\":.* Parser key \"(\w+)\":(.*)", _wrong_type_inside),
    (
        r"Parser key \"(\w+)\": Not of type Seed",
        lambda parser, key: f"{key} must be a whole number from 0 to 4294967295",
    ),
    (
        r"Parser key \"([\w.]+)\":.*Problem with given class_path '([\w.]+)': "
        r"the following arguments are required: (\w+(?:, \w+)*)",
        _missing_argument,
    ),
    (r"Parser key \"([\w.]+)\":.* Expected a dot import path string: (\S+)", _no_such_class),
    (
        r"Parser key \"([\w.]+)\":.*the following arguments are required: (\w+(?:, \w+)*) .*class_path='([\w.]+)'",
        lambda parser, key, missing, class_path: _missing_argument(parser, key, class_path, missing),
    ),
    (r"Parser key \"([\w.]+)\":.*Multiple subclasses with name (\w+)\..*ambiguity: ([\w., ]+)\. ", _several_classes),
    (rf"Parser key \"([\w.]+)\":.*{SUBTYPES}", _wrong_type),
    (rf"Parser key \"([\w.]+)\":.*?{EXPECTED}", _wrong_type),
    (r"Parser key \"([\w.]+)\": (.*)", lambda parser, key, reason: f"{key}: {reason}"),
)


def _known(parser: LightningArgumentParser) -> set[str]:
    """Every setting's name as a flag spells it: `model.net.dropout`, without `init_args`."""
    keys = parser.get_defaults().keys()  # a jsonargparse Namespace, which is no dict
    return {key.replace(".init_args", "") for key in keys if not key.endswith(".class_path")}


def _nearest(name: str, known: Any, prefix: str = "") -> str:
    # The last part is what was typed most often: compare within the same group before all of the names.
    group = name.rpartition(".")[0]
    leaves = [key for key in known if key.rpartition(".")[2] == name]
    if leaves:  # --lr, --dropout: the whole name is what is missing
        return f", did you mean {f'{prefix}{leaves[0]}'!r}?"
    siblings = [f"{prefix}{key}" for key in known if key.rpartition(".")[0] == group]
    return did_you_mean(f"{prefix}{name}", siblings) or did_you_mean(
        f"{prefix}{name}", [f"{prefix}{key}" for key in known]
    )
