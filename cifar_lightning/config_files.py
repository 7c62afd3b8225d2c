"""The files that --config names, looked at before the parser reads them."""

from itertools import pairwise
from pathlib import Path

import yaml

from cifar_lightning.errors import ConfigError
from cifar_lightning.suggest import did_you_mean


def values_of(arguments: list[str], *flags: str) -> list[str]:
    """What stands behind any of the flags, as `--flag value` or `--flag=value`, in their order."""
    values = []
    for argument, after in pairwise([*arguments, ""]):
        flag, joined, value = argument.partition("=")
        if flag in flags and (joined or after):
            values.append(value if joined else after)
    return values


def check_files(arguments: list[str]) -> None:
    """Reads every --config once, since the parser's own complaint about YAML does not name the file.

    Raises:
        ConfigError: one is missing, is no YAML or holds no settings.
    """
    for name in values_of(arguments, "--config", "-c"):
        path = Path(name)
        if not path.is_file():
            known = [str(found) for found in Path("configs").glob("**/*.yaml")]
            raise ConfigError(f"--config {name}: no such file{did_you_mean(name, known)}")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"--config {name} is not readable YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"--config {name} holds no settings; it should be a mapping such as `data: ...`")
