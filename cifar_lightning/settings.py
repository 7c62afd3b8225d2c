"""A run's settings by their flags' names: what makes two runs the same experiment, and what only says where it ran."""

import re
from typing import Any

# Settings that may differ between the runs of an experiment: its seed, and where things lie.
ELSEWHERE = {"seed_everything", "data.root", "data.seed", "trainer.default_root_dir"}

# What the settings that came after the first recorded runs are where they do nothing.
OFF = {
    "data.augment.flip": "none", "data.augment.crop_padding": 0, "data.augment.cutout": 0,
    "data.augment.brightness": 0.0, "data.augment.contrast": 0.0, "model.compile": False,
    "model.label_smoothing": 0.0, "model.tta.views": "none", "model.tta.below": 1.0,
}  # fmt: skip

# The folders in front of an absolute path's last part: they name a machine, not the experiment.
ABSOLUTE_FOLDERS = re.compile(r"(?<![\w.~-])(?<!:/)~?/(?:[^\s/'\"]+/)*(?=[^\s/'\"])")


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration, flat, without seed and places."""
    return {name: value for name, value in flat(without_folders(config)).items() if name not in ELSEWHERE}


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the settings in which two runs differ, in order.

    A setting that only one of them has is younger than the other run, which ran as if it were off.
    """
    return sorted(
        name
        for name in one.keys() | other.keys()
        if one.get(name, OFF.get(name)) != other.get(name, OFF.get(name))
        and not (name not in one and other[name] is None)
        and not (name not in other and one[name] is None)
    )


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"data": {"root": 1}}` as `{"data.root": 1}`."""
    names: dict[str, Any] = {}
    for key, value in config.items():
        names |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return names


def without_folders(content: Any) -> Any:
    """The same content with every absolute path cut to its last part."""
    if isinstance(content, dict):
        return {key: without_folders(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_folders(value) for value in content]
    return ABSOLUTE_FOLDERS.sub("", content) if isinstance(content, str) else content
