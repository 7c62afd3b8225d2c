"""The errors that a user can mend, each with its exit code, and what names the mistake in a verb's flags."""

import argparse
import difflib
from collections.abc import Iterable
from typing import NoReturn


class UserError(Exception):
    """A failure that the user can mend. Its text is one line; `exit_code` is what the process returns."""

    exit_code = 1


class ConfigError(UserError):
    """A wrong key, type, value or combination in flags or YAML."""

    exit_code = 2


class DataError(UserError):
    """CIFAR-10 is missing, incomplete, damaged or cannot be fetched."""

    exit_code = 3


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, unsafe, or belongs to another architecture."""

    exit_code = 4


class NonFiniteError(UserError):
    """The loss stopped being a number."""

    exit_code = 5


class OutputError(UserError):
    """A run's folder or file cannot be written or read."""

    exit_code = 6


class ImageError(UserError):
    """An image file cannot be read. The text is the reason alone: whoever knows the file's name puts it in front."""

    exit_code = 6


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `", did you mean 'x'?"` for the closest of `known`, or an empty string where nothing is close."""
    known = list(known)
    begun = [other for other in known if other.startswith(name)]
    if len(begun) == 1:  # cut short, which is nearer than any letter that is wrong
        return f", did you mean {begun[0]!r}?"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


class VerbParser(argparse.ArgumentParser):
    """The flags of a verb that trains nothing. A mistake becomes a ConfigError, with the right name of a flag."""

    def __init__(self, verb: str, description: str, epilog: str | None = None) -> None:
        self.verb = verb
        prog = f"python -m cifar_lightning {verb}"
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False)

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """The values of the flags; raises ConfigError."""
        options, unknown = self.parse_known_args(argv)
        for argument in unknown:
            name = argument.partition("=")[0]
            self.error(f"unknown argument {name}{did_you_mean(name, self._option_string_actions)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Argparse's own complaints, as ours."""
        raise ConfigError(f"{self.verb}: {message}; see {self.prog} --help")
