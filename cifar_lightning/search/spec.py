"""A search: its base, space, method and limits, read from a YAML file, and checked against the flags of `fit`."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from cifar_lightning.config.parser import Experiment
from cifar_lightning.config.recipes import SEARCHES, find_recipe
from cifar_lightning.errors import ConfigError, UserError
from cifar_lightning.runs.settings import flag_of, flat
from cifar_lightning.study.plan import Resolved, resolve
from cifar_lightning.study.spec import System, build, flag_value, mapping_values

SET_BY_THE_SEARCH = (
    "seed_everything", "ckpt", "config", "final_test", "trainer.default_root_dir", "trainer.max_epochs",
    "data.val_size",
)  # fmt: skip
VALIDATION = ("data.source", "data.root", "data.split_seed", "trainer.limit_val_batches")  # the same for all trials

Params = dict[str, Any]  # by flag: a number, or a choice as the text of its flag


@dataclass(frozen=True)
class Range:
    """Whole numbers where both ends are such, else any."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def distribution(self) -> BaseDistribution:
        """As Optuna has it. Raises ValueError: there is no such range."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, self.log, 1 if self.step is None else int(self.step))
        return FloatDistribution(self.low, self.high, self.log, self.step)


@dataclass(frozen=True)
class Choices:
    """Values of any kind: numbers, names of classes, lists, null."""

    choices: list  # type: ignore[type-arg]  # of any: jsonargparse would read texts otherwise

    def distribution(self) -> BaseDistribution:
        """As Optuna has it: texts of a flag. Raises ValueError: there are none."""
        return CategoricalDistribution([flag_value(value) for value in self.choices])


@dataclass(frozen=True)
class Search:
    """What is looked for, how, and for how long."""

    name: str
    space: dict[str, Range | Choices]  # by flag: `model.optimizer.lr`
    base: Path | None = None  # a recipe; None: the defaults of `fit`
    overrides: dict = field(default_factory=dict)  # type: ignore[type-arg]  # of the base, by flag; see System
    epochs: int | None = None  # of a trial; None: the base's
    val_size: int | None = None  # images that validate a trial; None: the base's
    objective: Literal["val_accuracy", "val_loss"] = "val_accuracy"  # after the last epoch
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["hyperband", "median", "none"] = "hyperband"
    trials: int | None = None
    hours: float | None = None  # without pauses; trials that run then are stopped
    seed: int = 0  # of the choice, and of every trial: they differ in their settings alone
    confirm_seeds: int = 3  # of the study that confirms

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna has it."""
        return {name: values.distribution() for name, values in self.space.items()}

    @property
    def is_better_higher(self) -> bool:
        """Whether the objective is to be maximised."""
        return self.objective == "val_accuracy"

    def system(self, name: str, params: Params) -> System:
        """The base with these values, as it trains in the end."""
        return System(name, name, self.base, self.overrides | params)

    def trial(self, name: str, params: Params) -> System:
        """The same as it trains in a trial: for as many epochs, and with a validation split."""
        budget = {"trainer.max_epochs": self.epochs, "data.val_size": self.val_size}
        system = self.system(name, params)
        given = {flag: value for flag, value in budget.items() if value is not None}
        return replace(system, overrides=system.overrides | given)


def read_search(path: Path) -> Search:
    """Reads a search; `path` is its file, or the name of one of the package's own.

    Raises ConfigError: the file cannot be read, or has a mistake; the message names the first one.
    """
    own = SEARCHES / f"{path.as_posix().removeprefix('configs/search/').removesuffix('.yaml')}.yaml"
    source = own if not path.exists() and own.is_file() else path
    try:
        return _from_file(source, yaml.safe_load(source.read_text(encoding="utf-8")))
    except OSError as error:
        known = ", ".join(file.stem for file in sorted(SEARCHES.glob("*.yaml")))
        fix = f"give a file, or one of the package's searches: {known}"
        raise ConfigError(f"search {path}: {error.strerror}; {fix}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"search {path} is not readable YAML: {' '.join(str(error).split())}") from error
    except ConfigError as error:
        raise ConfigError(f"search {path}: {error}") from error


def _from_file(path: Path, content: Any) -> Search:
    values = {"name": path.stem} | mapping_values(Search, content, "the search")
    space = values.get("space")
    if not isinstance(space, dict) or not space:
        raise ConfigError("space: expected flags with their values, such as model.optimizer.lr: {low: 1e-4, high: 0.1}")
    values["space"] = {flag: _values(item, f"space: {flag}") for flag, item in space.items()}
    if isinstance(base := values.get("base"), str):
        values["base"] = path.parent / base if (path.parent / base).is_file() else find_recipe(base)
    # The space is built already, and the parser would only look for its class.
    search = replace(build(Search, values | {"space": {}}, "the search"), space=values["space"])
    if not re.fullmatch(r"\w[\w.-]*", search.name):
        raise ConfigError(f"the name {search.name!r} is not one for a folder")
    if search.trials is None and search.hours is None:
        raise ConfigError("trials or hours: one of them says when it ends")
    for name in ("trials", "hours", "epochs", "val_size", "confirm_seeds"):
        if (value := getattr(search, name)) is not None and value <= 0:
            raise ConfigError(f"{name} must be above 0, got {value}")
    for where in ("space", "overrides"):
        for flag in getattr(search, where):
            if flag in SET_BY_THE_SEARCH or (where == "space" and flag.startswith(VALIDATION)):
                raise ConfigError(f"{where}: {flag} is set by the search itself, the same for all trials")
            if where == "overrides" and flag in search.space:
                raise ConfigError(f"overrides: {flag} is in the space")
    return search


def _values(content: Any, where: str) -> Range | Choices:
    kind: type[Range] | type[Choices] = Choices if isinstance(content, dict) and "choices" in content else Range
    values: Range | Choices = build(kind, mapping_values(kind, content, where), where)
    try:
        values.distribution()
    except ValueError as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
    return values


def check(search: Search) -> Resolved:
    """Builds the base, then every end and every choice of the space at least once.

    Returns the base as a trial trains it.

    Raises ConfigError: `fit` would refuse a value, or the trials have no validation split; the message names the flag.
    """
    base = resolve(search.trial("base", {}))
    if base.config["data"]["val_size"] == 0:
        raise ConfigError("the base has no validation split, on which trials are compared: set val_size")
    values = {
        flag: [flag_value(value) for value in item.choices] if isinstance(item, Choices) else [item.low, item.high]
        for flag, item in search.space.items()
    }
    for number in range(max(map(len, values.values()))):
        params = {flag: ends[number % len(ends)] for flag, ends in values.items()}
        if (error := _refusal(search, params)) is not None:
            for flag, value in params.items():
                if (own := _refusal(search, {flag: value})) is not None:
                    raise ConfigError(f"space: {flag}: {value}: {own}") from own
            raise ConfigError(f"space: {error}, with {text_of(params)}") from error
    return base


def _refusal(search: Search, params: Params) -> UserError | None:
    try:
        Experiment("fit", search.trial("trial", params).flags())
    except UserError as error:
        return error
    return None


def base_params(search: Search, base: Resolved) -> Params | None:
    """The base's own point of the space; None where the space leaves it out."""
    settings, params = {flag_of(name): value for name, value in flat(base.config).items()}, Params()
    for flag, item in search.space.items():
        value = settings.get(flag)
        if isinstance(item, Range):
            if not isinstance(value, int | float) or not item.low <= value <= item.high:
                return None
            params[flag] = value
        else:
            text = flag_value(value)  # the classes' names may be written without their modules
            named = [known for known in map(flag_value, item.choices) if text == known or text.endswith(f".{known}")]
            if not named:
                return None
            params[flag] = named[0]
    return params


def text_of(params: Params) -> str:
    """`model.optimizer.lr=0.00123, data.batch_size=64`."""
    return ", ".join(f"{flag}={f'{v:.4g}' if isinstance(v, float) else v}" for flag, v in params.items())
