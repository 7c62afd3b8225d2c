"""Fields: takes a mapping from YAML apart and notes every mistake, so that all are told at once."""

from typing import Any

from cifar_lightning.suggest import did_you_mean

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
