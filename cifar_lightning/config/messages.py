"""The parser's complaints, which run over many lines, as one line with the right name."""

import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import torch

from cifar_lightning import nets
from cifar_lightning.config.flags import unknown
from cifar_lightning.config.foreign import arguments_of
from cifar_lightning.errors import ConfigError, did_you_mean
from cifar_lightning.optim import schedules


def explain(message: str, known: Iterable[str]) -> ConfigError:
    """Rewrites one of jsonargparse's messages.

    Args:
        message: the text of its ArgumentError.
        known: the flags that exist, without dashes.
    """
    text = " ".join(message.split())
    for pattern, rewrite in _REWRITES:
        if found := re.search(pattern, text):
            return ConfigError(rewrite(known, *found.groups()))
    return ConfigError(text)


def told(reason: str) -> str:
    """What a constructor of torch says, with the flag that it is about."""
    if reason.startswith("Invalid learning rate"):
        return f"model.optimizer.lr: {reason}"
    if reason.startswith("Muon only supports 2D"):
        return "model.optimizer: torch.optim.Muon takes matrices alone; --model.optimizer MuonSGD takes a whole net"
    return reason


def constructor_complaint(text: str) -> str:
    """What a callback, logger or profiler says as it is built, out of jsonargparse's list of all types tried."""
    found = re.search(
        r"Errors: - (?:Problem with given class_path '[\w.]+': )?"
        r"(.+?) - (?:Expected a|Not a valid subclass).*class_path='[\w.]*\.(\w+)'",
        text,
    )
    if not found:
        return text
    reason, name = found.groups()
    group = next((kind for kind in ("logger", "profiler") if name.lower().endswith(kind)), "callbacks")
    return f"trainer.{group}: {name}: {reason}"


def _unrecognised(known: Iterable[str], arguments: str) -> str:
    first = arguments.split()[0]
    if not first.startswith("-"):
        return f"unexpected argument {first!r}; settings are given as --name value"
    return unknown(f"--{first.lstrip('-').partition('=')[0]}", known)


def _not_in_class(known: Iterable[str], key: str, class_path: str, option: str) -> str:
    module, _, name = class_path.rpartition(".")
    if module == "typing":  # no class is named, and the type allows several
        return f"{key}.{option} belongs to a class: name it first, as in --{key} ClassName"
    taken = [f"{key}.{argument}" for argument in arguments_of(getattr(import_module(module), name))]
    return unknown(f"{key}.{option}", taken, f": {name} does not take it")


def _no_such_class(known: Iterable[str], key: str, name: str) -> str:
    homes: dict[str, list[Any]] = {
        "model.net": [getattr(nets, module) for module in dir(nets) if inspect.ismodule(getattr(nets, module))],
        "model.optimizer": [torch.optim],
        "model.scheduler": [torch.optim.lr_scheduler, schedules],
    }
    known = {found for home in homes.get(key, []) for found, _ in inspect.getmembers(home, inspect.isclass)}
    fix = "" if "." in name else "; a class of your own needs its module, as in my_module.MyClass"
    return f"{key}: there is no class {name!r}{did_you_mean(name, known) or fix}"


def _several_classes(known: Iterable[str], key: str, name: str, found: str) -> str:
    # Of torch's own kind and Lightning's, which adds what it watches, only the latter is of use here.
    lightnings = [class_path for class_path in found.split(", ") if class_path.startswith("lightning.")]
    return (
        f"{key}: several classes are called {name}; give --{key} {lightnings[0] if lightnings else f'one of {found}'}"
    )


def _missing_argument(known: Iterable[str], key: str, class_path: str, missing: str) -> str:
    return f"{key}: {class_path.rpartition('.')[2]} needs {missing}; give --{key}.{missing.split(',')[0]}"


def _not_a_group(known: Iterable[str], key: str, value: str) -> str:
    first = min(name for name in known if name.startswith(f"{key}."))
    return f"{key}: expected settings such as --{first}, got {value!r}"


def _wrong_type(known: Iterable[str], key: str, expected: str, value: str) -> str:
    # Both spellings of one choice, '16' and 16, are one name here.
    listed = re.findall(r"Literal\[(.*?)\]", expected) + re.findall(r"member of <enum '\w+'>: {(.*?)}", expected)
    choices = list(dict.fromkeys(re.findall(r"[\w.-]+", " ".join(listed))))
    expected = expected.partition("] Errors: ")[0]
    names = choices + re.findall(r"class '([\w.]+)'", expected) or [expected]
    allowed = " or ".join("null" if name == "NoneType" else name for name in names)
    return f"{key}: expected {allowed}, got {value!r}{did_you_mean(value, choices)}"


def _wrong_type_inside(known: Iterable[str], outer: str, inner: str, reason: str) -> str:
    """A value of a class's own argument: jsonargparse names the class's key and, further inside, the argument."""
    own = reason.partition(". Got value: Namespace(")[0]
    for pattern in (SUBTYPES, EXPECTED):
        if found := re.search(pattern, own):
            return _wrong_type(known, f"{outer}.{inner}", *found.groups())
    return f"{outer}.{inner}: {own.strip()}"


SUBTYPES = r" Subtypes: \[(.*?\] Errors: .*)Given value: (.*)"
EXPECTED = r"Expected an? (.*?)\. Got value: (.*)"

# Tried in this order; the groups of a pattern are the arguments of its function.
_REWRITES = (
    (r"unrecognized arguments: (.*)", _unrecognised),
    (r"Group '([\w.]+)' does not accept option '([^']+)'", lambda known, *name: unknown(".".join(name), known)),
    (r"^Option '([\w.]+)' is not accepted", lambda known, name: unknown(name, known)),
    (
        r"Parser key \"([\w.]+)\": Problem with given class_path '([\w.]+)': Option '([^']+)' is not accepted",
        _not_in_class,
    ),
    (
        r"Parser key \"([\w.]+)\": .*Option '([^']+)' is not accepted\. Got value: Namespace\(class_path='([\w.]+)'",
        lambda known, key, option, class_path: _not_in_class(known, key, class_path, option),
    ),
    (r"Parser key \"([\w.]+)\": Unable to load config ['\"](.*?)['\"] - Parser key \"\1\": Unable", _not_a_group),
    (r"Parser key \"([\w.]+)\":.* Parser key \"(\w+)\":(.*)", _wrong_type_inside),
    (
        r"Parser key \"(\w+)\": Not of type Seed",
        lambda known, key: f"{key} must be a whole number from 0 to 4294967295",
    ),
    (
        r"Parser key \"([\w.]+)\":.*Problem with given class_path '([\w.]+)': "
        r"the following arguments are required: (\w+(?:, \w+)*)",
        _missing_argument,
    ),
    (r"Parser key \"([\w.]+)\":.* Expected a dot import path string: (\S+)", _no_such_class),
    (
        r"Parser key \"([\w.]+)\":.*the following arguments are required: (\w+(?:, \w+)*) .*class_path='([\w.]+)'",
        lambda known, key, missing, class_path: _missing_argument(known, key, class_path, missing),
    ),
    (r"Parser key \"([\w.]+)\":.*Multiple subclasses with name (\w+)\..*ambiguity: ([\w., ]+)\. ", _several_classes),
    (rf"Parser key \"([\w.]+)\":.*{SUBTYPES}", _wrong_type),
    (rf"Parser key \"([\w.]+)\":.*?{EXPECTED}", _wrong_type),
    (r"Parser key \"([\w.]+)\": (.*)", lambda known, key, reason: f"{key}: {reason}"),
)
