"""The vocabulary of claims: a few kinds of check, each of which the runs' figures can decide.

| fields of a check | it is about |
|---|---|
| `compare: [a, b]`, `metric`, `expect: higher, lower, not higher or not lower` | the difference of two systems' means |
| `system`, `metric`, `expect: equal, at least or at most`, `value`, `within` | one system's mean and a stated number |
| `system`, `metric`, `expect: falls` | the metric's curve, which falls with every epoch |

`within` is what a rounded number leaves open: 'about 63%' is `value: 0.63, within: 0.005`. Beside `says` and `checks` a
claim may have a `remark`: a person's words on what could explain the verdict, shown under it.
"""

from dataclasses import dataclass
from typing import Any

from cifar_lightning.study.fields import Fields
from cifar_lightning.study.metrics import CURVES, METRICS
from cifar_lightning.suggest import did_you_mean

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
