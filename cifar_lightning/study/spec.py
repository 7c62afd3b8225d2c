"""A study: its systems, seeds, comparisons and claims, read from a YAML file or from a folder of configs."""

import re
import shlex
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from cifar_lightning.config.recipes import FOLDER, STUDY_FILE
from cifar_lightning.errors import ConfigError, did_you_mean
from cifar_lightning.study.metrics import CURVES, METRICS

SET_BY_THE_STUDY = ("seed_everything", "ckpt", "trainer.default_root_dir", "config")
BETWEEN_TWO = ("higher", "lower", "not higher", "not lower")
OF_A_NUMBER = ("equal", "at least", "at most")
FALLS = "falls"  # of a curve

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One question to the metrics: `compare` (a, b) asks for a against b, `system` for one system alone."""

    metric: str
    expect: str  # empty where the verdict alone is wanted
    compare: tuple[str, str] | None = None
    system: str = ""
    value: float | None = None
    within: float = 0.0

    @property
    def systems(self) -> tuple[str, ...]:
        """The two that are compared, or the one."""
        return self.compare or (self.system,)

    @property
    def kind(self) -> str:
        """'difference', 'number' or 'curve'."""
        return "difference" if self.compare else "curve" if self.expect == FALLS else "number"


@dataclass(frozen=True)
class Claim:
    """A statement of the original, and the checks that test it."""

    says: str
    checks: tuple[Check, ...]
    remark: str = ""  # by hand: what could explain the result


@dataclass(frozen=True)
class System:
    """One configuration of a study, to be trained with each of its seeds."""

    name: str
    title: str
    config: Path | None = None  # None: the defaults of `fit`
    # By flag: `trainer.max_epochs`. A bare dict: of dict[str, Any] jsonargparse would read the text "no" as false.
    overrides: dict = field(default_factory=dict)  # type: ignore[type-arg]
    seeds: tuple[int, ...] = (0,)
    says: str = ""  # what the original says of it, in its words

    def flags(self) -> list[str]:
        """The flags of `fit` that give this system."""
        config = ["--config", self.config.as_posix()] if self.config else []
        return config + [f"--{name}={flag_value(value)}" for name, value in self.overrides.items()]


@dataclass(frozen=True)
class Study:
    """A whole study; `reference` is the system that is shown in detail and with which the others are compared."""

    name: str
    path: Path  # what the user gave
    title: str
    reference: str
    systems: tuple[System, ...]
    comparisons: tuple[tuple[str, str], ...] = ()  # (system, the one that it is compared with)
    claims: tuple[Claim, ...] = ()
    introduction: str = ""
    published: Path | None = None  # a folder of results, whose runs of this study count as well
    seeds: tuple[int, ...] = (0,)  # of systems that name none

    @property
    def arguments(self) -> str:
        """The arguments of `study` that read this study again."""
        by_flag = ["--seeds", *map(str, self.seeds)] if self.path.is_dir() and self.seeds != (0,) else []
        return shlex.join([self.path.as_posix(), *by_flag])


def read_study(path: Path, seeds: list[int] | None = None) -> Study:
    """Reads a study.

    Args:
        path: a study file, or a folder: its study.yaml, or without one every config in it as a system. What is not
            there is looked for among the package's own studies: `report`, `configs/report`.
        seeds: only for a folder without a study file; 0 by default.

    Raises ConfigError: the path cannot be read, or the file has a mistake. The message names the first one.
    """
    source = path
    own = FOLDER / path.as_posix().removeprefix("configs/") / STUDY_FILE
    if not path.exists() and own.is_file():  # its configs are found by name too: `configs/report/final.yaml`
        source, path = own, Path("configs", own.relative_to(FOLDER))
    elif (path / STUDY_FILE).is_file():
        source = path = path / STUDY_FILE
    if path.is_dir():
        return _from_folder(path, tuple(seeds or [0]))
    if seeds is not None:
        raise ConfigError(f"--seeds is for a folder of configs: {path} says the seeds of its systems itself")
    try:
        return _from_file(path, yaml.safe_load(source.read_text(encoding="utf-8")))
    except OSError as error:
        known = ", ".join(file.parent.name for file in FOLDER.rglob(STUDY_FILE))
        fix = f"give a study file, a folder of configs, or one of the package's studies: {known}"
        raise ConfigError(f"study {path}: {error.strerror}; {fix}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"study {path} is not readable YAML: {' '.join(str(error).split())}") from error
    except ConfigError as error:
        raise ConfigError(f"study {path}: {error}") from error


def _from_folder(path: Path, seeds: tuple[int, ...]) -> Study:
    configs = sorted(path.glob("*.yaml"))
    if not configs:
        raise ConfigError(f"study {path}: no .yaml file in this folder; give a study file or a folder of configs")
    systems = tuple(System(config.stem, config.stem, config, seeds=seeds) for config in configs)
    name, reference = path.resolve().name, systems[0].name
    comparisons = tuple((system.name, reference) for system in systems[1:])
    return Study(name, path, name, reference, systems, comparisons, seeds=seeds)


def _from_file(path: Path, content: Any) -> Study:
    values = mapping_values(Study, content, "the study", "path")
    seeds = _seeds(values.get("seeds", [0]), "seeds")
    systems = [_system(str(name), item, path.parent, seeds) for name, item in values.get("systems", {}).items()]
    if not systems:
        raise ConfigError("systems: at least one is needed")
    names = [system.name for system in systems]
    claims = [_claim(item, f"claim {number}", names) for number, item in enumerate(values.get("claims", []), start=1)]
    name = values.get("name", path.resolve().parent.name if path.name == STUDY_FILE else path.stem)
    defaults = {"name": name, "title": name, "reference": names[0]}
    study = build(Study, defaults | values | {"path": path, "systems": systems, "claims": claims}, "the study")
    for name in (study.name, *names):
        if name == "figures" or not re.fullmatch(r"\w[\w.-]*", name):  # the page's figures lie beside the systems
            raise ConfigError(f"the name {name!r} is not one for a folder")
    _check_names((study.reference,), names, "reference")
    for pair in study.comparisons:
        _check_names(pair, names, "comparisons")
    others = tuple((name, study.reference) for name in names if name != study.reference)
    return study if "comparisons" in values else replace(study, comparisons=others)


def _system(name: str, content: Any, folder: Path, seeds: tuple[int, ...]) -> System:
    where = f"system {name}"
    values = {"title": name, "seeds": seeds} | mapping_values(System, {} if content is None else content, where, "name")
    values["seeds"] = _seeds(values["seeds"], f"{where}: seeds")
    system = build(System, values | {"name": name}, where)
    for flag in SET_BY_THE_STUDY:
        if flag in system.overrides:
            raise ConfigError(f"{where}: {flag} is set by the study itself")
    # Beside the study file, wherever the command runs.
    return replace(system, config=folder / system.config) if system.config else system


def _claim(content: Any, where: str, names: list[str]) -> Claim:
    values = mapping_values(Claim, content, where)
    items = values.get("checks", [])
    if not values.get("says") or not items:
        raise ConfigError(f"{where}: needs says (the claim in words) and checks (a list)")
    checks = [_check(item, f"{where}, check {number}", names) for number, item in enumerate(items, start=1)]
    return build(Claim, values | {"checks": checks}, where)


def _check(content: Any, where: str, names: list[str]) -> Check:
    check = build(Check, mapping_values(Check, content, where), where)
    if (check.compare is None) == (check.system == ""):
        raise ConfigError(f"{where}: needs either compare: [system, other system] or system")
    _check_names(check.systems, names, where)
    expected = BETWEEN_TWO if check.compare else (*OF_A_NUMBER, FALLS)
    for name, value, allowed in (("metric", check.metric, tuple(METRICS)), ("expect", check.expect, expected)):
        if value not in allowed:
            nearest = did_you_mean(value, allowed)
            raise ConfigError(f"{where}: {name} must be one of {', '.join(allowed)}, got {value!r}{nearest}")
    if check.kind == "curve" and check.metric not in CURVES:
        raise ConfigError(f"{where}: a curve is one of {', '.join(CURVES)}, got {check.metric!r}")
    if (check.value is not None) != (check.kind == "number"):
        raise ConfigError(f"{where}: value goes with {', '.join(OF_A_NUMBER)}, and these need it")
    if check.within < 0:
        raise ConfigError(f"{where}: within must be at least 0, got {check.within:g}")
    return check


def _check_names(systems: tuple[str, ...], names: list[str], where: str) -> None:
    for name in systems:
        if name not in names:
            raise ConfigError(f"{where}: there is no system {name!r}{did_you_mean(name, names)}")
    if len(set(systems)) < len(systems):
        raise ConfigError(f"{where}: expected two different systems, got {systems[0]!r} twice")


def _seeds(values: Any, where: str) -> tuple[int, ...]:
    are_seeds = isinstance(values, list | tuple) and all(type(value) is int and value >= 0 for value in values)
    if not are_seeds or not values or len(set(values)) < len(values):
        raise ConfigError(f"{where}: expected different whole numbers from 0 on, such as [0, 1, 2], got {values!r}")
    return tuple(values)


def mapping_values(kind: type, content: Any, where: str, hidden: str = "") -> dict[str, Any]:
    """The values that a mapping of the file has for a dataclass, without nulls; the file may not set `hidden`."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping, got {content!r}")
    known = [field.name for field in fields(kind) if field.name != hidden]
    for name in content:  # jsonargparse lets an unknown name pass whose value is an empty mapping
        if name not in known:
            raise ConfigError(f"{where}: unknown field {name!r}{did_you_mean(str(name), known)}")
    values = {name: value.strip() if isinstance(value, str) else value for name, value in content.items()}
    for name, expected in (("systems", dict), ("claims", list), ("checks", list)):  # which are read one by one
        if values.get(name) is not None and not isinstance(values[name], expected):
            raise ConfigError(f"{where}: {name}: expected {expected.__name__}, got {values[name]!r}")
    return {name: value for name, value in values.items() if value is not None}


def build(kind: type[T], values: dict[str, Any], where: str) -> T:
    """The dataclass with these values. jsonargparse checks the types, and its message becomes one line."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        return kind(**vars(parser.parse_object(values)))
    except ArgumentError as error:
        text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", " ".join(str(error).split()))
        pattern = r'Parser key "(\w+)": .*?(?:Expected an? |Subtypes: \[)(.*?)(?:\. Got|\] Errors.* Given) value: (.*)'
        text = re.sub(pattern, r"\1: expected \2, got \3", text.replace("NoneType", "null"))
        raise ConfigError(f"{where}: {text.replace('tuple', 'list')}") from error  # YAML has no tuples


def flag_value(value: Any) -> str:
    """YAML on one line, as the parser takes it back."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    return text.strip("'") if isinstance(value, str) else text
