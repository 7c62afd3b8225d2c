"""What a study is: its systems, seeds, comparisons and claims, read from a YAML file or from a folder of configs."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cifar_lightning.errors import ConfigError, did_you_mean
from cifar_lightning.study.metrics import CURVES, METRICS

NAMES = {str: "text", list: "a list", dict: "a mapping", float: "a number"}


class Fields:
    """One mapping of a study file.

    Args:
        content: what YAML gave; anything but a mapping is a problem.
        where: what the mapping is, for the messages.
        problems: the list that messages are added to.
    """

    def __init__(self, content: Any, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        self._known: list[str] = []
        if not isinstance(content, dict):
            problems.append(f"{where}: expected a mapping, got {content!r}")
            content = {}
        self._content = dict(content)

    def take(self, name: str, kind: type, default: Any) -> Any:
        """The value of a field, or `default` where it is not there or of another kind (which is noted)."""
        self._known.append(name)
        value = self._content.pop(name, None)
        if value is None:
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind):
            self.problems.append(f"{self.where}: {name} must be {NAMES[kind]}, got {value!r}")
            return default
        return value

    def nothing_left(self) -> None:
        """Notes the fields that nobody took: they are misspelt."""
        for name in self._content:
            self.problems.append(f"{self.where}: unknown field {name!r}{did_you_mean(str(name), self._known)}")


BETWEEN_TWO = ("higher", "lower", "not higher", "not lower")
OF_A_NUMBER = ("equal", "at least", "at most")
OF_A_CURVE = ("falls",)


@dataclass(frozen=True)
class Check:
    """One question to the figures."""

    systems: tuple[str, ...]  # (a, b) for 'a compared with b', or one alone
    metric: str
    expect: str
    value: float | None = None
    within: float = 0.0

    @property
    def kind(self) -> str:
        """'difference', 'number' or 'curve'."""
        return "difference" if len(self.systems) == 2 else "curve" if self.expect in OF_A_CURVE else "number"


@dataclass(frozen=True)
class Claim:
    """What the original says, and the checks that it comes to."""

    says: str
    checks: tuple[Check, ...]
    remark: str = ""  # by hand: what could explain what was measured, or how it should be read


def read_claim(content: Any, where: str, systems: list[str], problems: list[str]) -> Claim | None:
    """Reads one entry of `claims`; every mistake goes to `problems`."""
    fields = Fields(content, where, problems)
    says, items = fields.take("says", str, ""), fields.take("checks", list, [])
    remark = fields.take("remark", str, "")
    fields.nothing_left()
    if not says or not items:
        problems.append(f"{where}: needs says (the claim in words) and checks (a list)")
        return None
    checks = [read_check(item, f"{where}, check {number}", systems, problems) for number, item in enumerate(items, 1)]
    return Claim(says.strip(), tuple(check for check in checks if check), remark.strip())


def read_check(content: Any, where: str, systems: list[str], problems: list[str]) -> Check | None:
    """Reads one check; every mistake goes to `problems`."""
    known_problems = len(problems)
    fields = Fields(content, where, problems)
    pair, system = fields.take("compare", list, []), fields.take("system", str, "")
    metric, expect = fields.take("metric", str, ""), fields.take("expect", str, "")
    value, within = fields.take("value", float, None), fields.take("within", float, 0.0)
    fields.nothing_left()
    if bool(pair) == bool(system):
        problems.append(f"{where}: needs either compare: [system, other system] or system")
    if pair and (len(pair) != 2 or pair[0] == pair[1]):
        problems.append(f"{where}: compare needs two different systems, got {pair!r}")
    for name in (*pair, *([system] if system else [])):
        if name not in systems:
            problems.append(f"{where}: there is no system {name!r}{did_you_mean(str(name), systems)}")
    if metric not in METRICS:
        problems.append(f"{where}: metric must be one of {', '.join(METRICS)}{did_you_mean(metric, METRICS)}")
    allowed = BETWEEN_TWO if pair else (*OF_A_NUMBER, *OF_A_CURVE)
    if expect not in allowed:
        problems.append(f"{where}: expect must be one of {', '.join(allowed)}, got {expect!r}")
    if (value is not None) != (expect in OF_A_NUMBER):
        problems.append(f"{where}: value goes with {', '.join(OF_A_NUMBER)}, and these need it")
    if expect in OF_A_CURVE and metric not in CURVES:
        problems.append(f"{where}: a curve is one of {', '.join(CURVES)}")
    if within < 0:
        problems.append(f"{where}: within must be at least 0, got {within:g}")
    if len(problems) > known_problems:
        return None
    return Check(tuple(pair) if pair else (system,), metric, expect, value, within)


STUDY_FILE = "study.yaml"
TAKEN = {"means", "figures"}  # folders beside those of the systems


@dataclass(frozen=True)
class System:
    """One configuration of a study, to be trained with each of its seeds."""

    name: str
    title: str
    config: Path | None  # None: the defaults of `fit`
    overrides: dict[str, Any]  # by flag: `trainer.max_epochs`
    seeds: tuple[int, ...]
    says: str  # what the original says of it, in its words

    def flags(self) -> list[str]:
        """The flags of `fit` that give this system."""
        config = ["--config", self.config.as_posix()] if self.config else []
        return config + [f"--{name}={_flag_value(value)}" for name, value in self.overrides.items()]


@dataclass(frozen=True)
class Study:
    """A whole study; `reference` is the system that is shown in detail and with which the others are compared."""

    name: str
    path: Path  # what the user gave
    title: str
    introduction: str
    reference: str
    published: Path | None  # a folder of results, whose runs of this study count as well
    systems: tuple[System, ...]
    comparisons: tuple[tuple[str, str], ...]  # (system, the one that it is compared with)
    claims: tuple[Claim, ...]

    @property
    def arguments(self) -> str:
        """What `study` is given to read this study: the path, and the seeds that a folder of configs cannot say."""
        seeds = self.systems[0].seeds
        by_flag = ["--seeds", *map(str, seeds)] if self.path.is_dir() and seeds != (0,) else []
        return shlex.join([self.path.as_posix(), *by_flag])


def read_study(path: Path, seeds: list[int] | None = None) -> Study:
    """Reads a study.

    Args:
        path: a study file, or a folder: its study.yaml, or without one every config in it as a system.
        seeds: for a folder without a study file, which has no place to say them; 0 by default.

    Raises:
        ConfigError: the path is none, or the file has mistakes; all of them are listed.
    """
    if path.is_dir() and (path / STUDY_FILE).is_file():
        path /= STUDY_FILE
    if path.is_dir():
        return _from_folder(path, tuple(seeds or [0]))
    if seeds is not None:
        raise ConfigError(f"--seeds is for a folder of configs: {path} says the seeds of its systems itself")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"study {path}: {error.strerror}; give a study file or a folder of configs") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"study {path} is not readable YAML: {' '.join(str(error).split())}") from error
    return _from_content(path, content)


def _from_folder(path: Path, seeds: tuple[int, ...]) -> Study:
    configs = sorted(path.glob("*.yaml"))
    if not configs:
        raise ConfigError(f"study {path}: no .yaml file in this folder; give a study file or a folder of configs")
    systems = tuple(System(config.stem, config.stem, config, {}, seeds, "") for config in configs)
    reference = systems[0].name
    name = path.resolve().name
    comparisons = tuple((system.name, reference) for system in systems[1:])
    return Study(name, path, name, "", reference, None, systems, comparisons, ())


def _from_content(path: Path, content: Any) -> Study:
    problems: list[str] = []
    fields = Fields(content, "the study", problems)
    default_seeds = _seeds(fields.take("seeds", list, [0]), "seeds", problems)
    systems = []
    for name, settings in fields.take("systems", dict, {}).items():
        systems.append(_system(path, str(name), settings, default_seeds, problems))
    names = [system.name for system in systems]
    if not names:
        problems.append("systems: at least one is needed")
    reference = fields.take("reference", str, names[0] if names else "")
    published = fields.take("published", str, "")
    default_pairs = [[name, reference] for name in names if name != reference and reference in names]
    pairs = fields.take("comparisons", list, default_pairs)
    claims = [
        read_claim(item, f"claim {number}", names, problems)
        for number, item in enumerate(fields.take("claims", list, []), start=1)
    ]
    study_name = fields.take("name", str, path.resolve().parent.name if path.name == STUDY_FILE else path.stem)
    title, introduction = fields.take("title", str, study_name), fields.take("introduction", str, "")
    fields.nothing_left()
    problems += [f"the name {name!r} is not one for a folder" for name in (study_name, *names) if not _is_name(name)]
    if names and reference not in names:
        problems.append(f"reference: there is no system {reference!r}")
    for pair in pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(name in names for name in pair)
        if not is_pair or pair[0] == pair[1]:
            problems.append(f"comparisons: expected [system, other system] of {', '.join(names)}, got {pair!r}")
    if problems:
        raise ConfigError(f"study {path}: {'; '.join(dict.fromkeys(problems))}")
    return Study(
        study_name, path, title, introduction.strip(), reference, Path(published) if published else None,
        tuple(systems), tuple((a, b) for a, b in pairs), tuple(claim for claim in claims if claim),
    )  # fmt: skip


def _system(path: Path, name: str, content: Any, default_seeds: tuple[int, ...], problems: list[str]) -> System:
    fields = Fields({} if content is None else content, f"system {name}", problems)
    config = fields.take("config", str, "")
    seeds = fields.take("seeds", list, None)
    system = System(
        name,
        fields.take("title", str, name),
        path.parent / config if config else None,  # beside the study file, wherever the command runs
        fields.take("overrides", dict, {}),
        default_seeds if seeds is None else _seeds(seeds, f"system {name}: seeds", problems),
        fields.take("says", str, ""),
    )
    fields.nothing_left()
    for flag in ("seed_everything", "ckpt", "trainer.default_root_dir", "config"):
        if flag in system.overrides:
            problems.append(f"system {name}: {flag} is set by the study itself")
    return system


def _seeds(values: list[Any], where: str, problems: list[str]) -> tuple[int, ...]:
    if not values or any(type(value) is not int or value < 0 for value in values) or len(set(values)) < len(values):
        problems.append(f"{where}: expected different whole numbers from 0 on, such as [0, 1, 2], got {values!r}")
        return ()
    return tuple(values)


def _is_name(name: str) -> bool:
    return (
        bool(name)
        and name[0] not in ".-"
        and name not in TAKEN
        and all(part.isalnum() or part in "._-" for part in name)
    )


def _flag_value(value: Any) -> str:
    """YAML on one line, as the parser takes it back."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    return text.strip("'") if isinstance(value, str) else text
