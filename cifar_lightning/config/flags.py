"""The flags of `fit`, `validate` and `test`, read from the sources of the constructors, so that no torch is imported.

What is sure is answered from them at once; the rest is left to the parser.
"""

import ast
import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cifar_lightning.config.invocation import Invocation
from cifar_lightning.errors import ConfigError, did_you_mean
from cifar_lightning.runs.settings import flat

LOGS = "lightning_logs"
TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 30,  # the report's
    "default_root_dir": LOGS,
    "devices": 1,
    "num_sanity_val_steps": 0,  # the first validation comes soon enough, and its metrics would need cleaning up
    "enable_model_summary": False,  # our table shows the output shapes as well
}
SOURCES = {  # a group of flags: the class whose arguments they are
    "data": "cifar_lightning.data.datamodule.CIFAR10DataModule",
    "data.augment": "cifar_lightning.data.transforms.Augmentation",
    "model": "cifar_lightning.classifier.Classifier",
    "model.net": "cifar_lightning.nets.report_cnn.ReportCNN",
    "model.optimizer": "torch.optim.adam.Adam",
    "model.tta": "cifar_lightning.nets.tta.TTA",
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
}
NO_FLAGS = {"data.augment", "data.seed", "model.optimizer.params", "model.tta"}  # groups, and what others set

Flag = tuple[Any, str]  # its default, and what it means

OWN_FLAGS: dict[str, Flag] = {  # that are no constructor's
    "config": (None, "a recipe's name or a YAML file; of several, later beats earlier"),
    "ckpt": (
        None,
        "the run to go on with or to score: a path, best, last (alone: last); to score or use, pretrained too",
    ),
    "seed_everything": (0, "of weights, dropout and training order"),
    "final_test": (True, "score the last weights on the test set at the end"),
    "tta": (None, "score once more with test-time augmentation: short for --model.tta.views"),
    "calibrate": ("", "fit a temperature on the validation split, for predict"),
}


def all_flags(verb: str, named: Iterable[str] = ()) -> dict[str, Flag]:
    """Every flag without its dashes. The arguments of a net or optimizer other than the default are not known here.

    Args:
        verb: 'fit', 'find-lr', 'validate' or 'test'.
        named: the settings that have another class, such as 'model.net'.
    """
    absent = NO_FLAGS | ({"calibrate", "tta"} if verb in ("fit", "find-lr") else {"final_test"})
    flags = dict(OWN_FLAGS)
    for group, class_path in SOURCES.items():
        if group in flags:
            flags[group] = (class_path.rpartition(".")[2], flags[group][1])
        if group not in named:
            flags |= {f"{group}.{name}": flag for name, flag in _arguments(class_path).items()}
    flags |= {f"trainer.{name}": (default, "") for name, default in TRAINER_DEFAULTS.items()}
    return {name: flag for name, flag in flags.items() if name not in absent}


def refuse_unknown(verb: str, invocation: Invocation) -> None:
    """Raises the parser's ConfigError for the first flag, or setting in a file, that surely does not exist."""
    flags = all_flags(verb, invocation.named_classes())
    # jsonargparse's own, what seed_everything sets, and the Trainer's where its source is not as expected.
    unsure = ("help", "print_", "data.seed", *(["trainer."] if "trainer.logger" not in flags else []))
    typed = [argument.partition("=")[0] for argument in invocation.flags if argument.startswith("--")]
    for name in (*typed, *(str(name) for layer in invocation.layers for name in flat(layer))):
        bare = name.removeprefix("--").removesuffix("+")
        near = any(f"{flag}.".startswith(f"{bare}.") or bare.startswith(f"{flag}.") for flag in flags)
        if not near and " " not in bare and not bare.startswith(unsure):
            raise ConfigError(unknown(name, flags))


def unknown(name: str, known: Iterable[str], where: str = "") -> str:
    """The complaint about the name of a flag, with its dashes, or of a setting; with the nearest that is known."""
    prefix, bare = ("--", name[2:]) if name.startswith("--") else ("", name)
    group = bare.rpartition(".")[0]
    leaves = [key for key in known if key.rpartition(".")[2] == bare]  # --lr: the whole name is what is missing
    # The last part is what was typed most often: compare within the same group before all of the names.
    siblings = [f"{prefix}{key}" for key in known if key.rpartition(".")[0] == group]
    nearest = did_you_mean(name, siblings) or did_you_mean(name, [f"{prefix}{key}" for key in known])
    if leaves:
        nearest = f", did you mean {prefix + leaves[0]!r}?"
    return f"unknown {'flag' if prefix else 'setting'} {name}{where}{nearest}"


def first_sentence(text: str | None) -> str:
    """What a docstring, or an argument's part of it, says first; in one line and without papers."""
    text = re.sub(r"\s+\([^()]*arXiv[^()]*\)", "", text or "")
    return " ".join(re.split(r"\.\s|\.$|\n\n", text)[0].split())


@cache
def _arguments(class_path: str) -> dict[str, Flag]:
    """What a constructor takes, from its source; nothing where that does not tell all, as with **kwargs."""
    package, *folders, module, class_name = class_path.split(".")
    path = Path(str(getattr(find_spec(package), "origin", ""))).parent.joinpath(*folders, f"{module}.py")
    tree = ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name), None)
    if found is None:
        return {}
    fields = {ast.unparse(node.target): node.value for node in found.body if isinstance(node, ast.AnnAssign)}
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":  # no dataclass
            names = [argument.arg for argument in (*node.args.args[1:], *node.args.kwonlyargs)]
            values = [*node.args.defaults, *node.args.kw_defaults]
            values = [*[None] * (len(names) - len(values)), *values]
            fields = {} if node.args.kwarg else dict(zip(names, values, strict=True))
    about = dict(re.findall(r"^    (\w+): +(.*(?:\n {8}.*)*)", ast.get_docstring(found) or "", re.MULTILINE))
    return {name: (_value(value), first_sentence(about.get(name))) for name, value in fields.items()}


def _value(default: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(default) if default is not None else None
    except ValueError:
        return None  # another object, whose own arguments are flags
