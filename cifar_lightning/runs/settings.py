"""A run's settings by their flags' names: what makes two runs the same experiment, and what only says where it ran."""

import re
from typing import Any

# Settings that may differ between the runs of an experiment: its seed, and where things lie.
IGNORED_IN_IDENTITY = {"seed_everything", "data.root", "data.seed", "trainer.default_root_dir"}

# The flags of these and of what a run shows: they make no other experiment.
NEUTRAL_FLAGS = {
    "--seed_everything", "--data.root", "--data.source", "--trainer.default_root_dir", "--trainer.enable_progress_bar",
    "--final_test",
}  # fmt: skip

# Neutral values of settings younger than the oldest recorded runs.
NEUTRAL_DEFAULTS = {
    "data.augment.flip": "none", "data.augment.crop_padding": 0, "data.augment.cutout": 0,
    "data.augment.brightness": 0.0, "data.augment.contrast": 0.0, "data.augment.policy": "none",
    "data.augment.operations": 2, "data.augment.magnitude": 9, "data.augment.erasing": 0.0, "data.augment.mixup": 0.0,
    "data.augment.cutmix": 0.0, "data.dataset": "cifar10", "model.compile": False,
    "model.label_smoothing": 0.0, "model.tta.views": "none", "model.tta.below": 1.0,
    "model.decay_vectors": True, "model.net.init_args.winograd": False, "data.source": "official",
    "data.synthetic": False,  # gone, and in the oldest runs
}  # fmt: skip

# The folders in front of an absolute path's last part: they name a machine, not the experiment.
ABSOLUTE_FOLDERS = re.compile(r"(?<![\w.~-])(?<!:/)~?/(?:[^\s/'\"]+/)*(?=[^\s/'\"])")


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration, flat, without seed and places."""
    settings = {name: value for name, value in flat(without_folders(config)).items() if name not in IGNORED_IN_IDENTITY}
    if settings.get("data.source") == "auto":  # a run records what it found; an experiment means the whole set
        settings["data.source"] = "official"
    return settings


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the settings in which two runs differ, in order.

    A setting that only one of them has is younger than the other run, which ran as if it were off.
    """
    return sorted(
        name
        for name in one.keys() | other.keys()
        if one.get(name, NEUTRAL_DEFAULTS.get(name)) != other.get(name, NEUTRAL_DEFAULTS.get(name))
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


# Changing one of these settings breaks bit-exact resume. Not counted: where files are, how final weights are scored,
# and the optimizer's values, which a flag changes on purpose.
_REPORTED = (
    "data.", "model.", "seed_everything", "trainer.precision", "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.limit_train_batches",
    "trainer.limit_val_batches", "trainer.val_check_interval", "trainer.check_val_every_n_epoch", "trainer.callbacks",
    "trainer.deterministic", "trainer.benchmark",
)  # fmt: skip
_NOT_REPORTED = ("data.root", "data.seed", "model.tta", "model.optimizer")


def config_diff(
    before: dict[str, Any], now: dict[str, Any], machine_before: dict[str, Any], machine: dict[str, Any]
) -> str | None:
    """Why a run that goes on will not be, bit for bit, the one that was stopped; one line, or None where it will.

    Args:
        before: the checkpoint's resolved configuration.
        now: the resolved configuration with the flags.
        machine_before: the fingerprint in the checkpoint; empty in one of before there were any.
        machine: the fingerprint here.
    """
    old, new = flat(before), flat(now)
    pairs = [
        (flag_of(name), _or_neutral(old, name), _or_neutral(new, name))
        for name in differing(old, new)
        if name.startswith(_REPORTED)
        and not name.startswith(_NOT_REPORTED)
        and (name in old or name in NEUTRAL_DEFAULTS)  # else it is younger than the checkpoint: there is no before
    ]
    pairs += [(name, machine_before.get(name, "unknown"), value) for name, value in machine.items()]
    changed = [f"{name} {was} before, {is_now} now" for name, was, is_now in pairs if was != is_now]
    return f"the run goes on, but not bit for bit as it would have: {'; '.join(changed)}" if changed else None


def flag_of(name: str) -> str:
    """`model.net.init_args.dropout` as the flag that sets it, `model.net.dropout`."""
    return name.replace(".init_args", "").replace(".class_path", "")


def _or_neutral(settings: dict[str, Any], name: str) -> Any:
    """The value of a setting; its neutral value where it has none, as in checkpoints older than the setting."""
    value = settings.get(name)
    return NEUTRAL_DEFAULTS.get(name) if value is None else value


def setting(config: dict[str, Any], name: str) -> Any:
    """The value of a setting by its flag's name, such as `data.batch_size`; None where there is none."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
