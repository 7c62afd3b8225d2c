"""The files that --config names, looked at before the parser reads them."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from cifar_lightning.errors import ConfigError, did_you_mean

MONITORED = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


def check_settings(config: Any, verb: str) -> None:
    """Looks at a parsed configuration.

    Args:
        config: jsonargparse's Namespace.
        verb: 'fit', 'validate' or 'test'.

    Raises:
        ConfigError: a setting is not supported, or would make the figures lie.
    """
    trainer = config.trainer
    if trainer.num_nodes != 1:
        raise ConfigError("trainer.num_nodes must be 1: several machines are not supported")
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):  # Lightning would divide by them
        if trainer[name] is not None and trainer[name] < 1:
            raise ConfigError(f"trainer.{name} must be at least 1, got {trainer[name]}")
    if trainer.strategy not in ("auto", "ddp"):
        raise ConfigError(f"trainer.strategy must be auto or ddp, got {trainer.strategy!r}")
    for name, example in (("data.augment", "flip"), ("model.tta", "views")):
        if config[name] is None:
            raise ConfigError(f"{name}: expected settings such as {name}.{example}, got null; leave it out")
    _check_monitor(config)
    if verb == "fit" and trainer.overfit_batches:
        raise ConfigError("trainer.overfit_batches is not supported: the order is new in each epoch")
    if trainer.limit_test_batches is not None:
        raise ConfigError("trainer.limit_test_batches is not supported: the test set is scored whole or not at all")


def _check_monitor(config: Any) -> None:
    scheduler = config.model.scheduler
    if scheduler is None or not scheduler.class_path.endswith(".ReduceLROnPlateau"):
        return
    if scheduler.class_path.startswith("torch."):
        raise ConfigError(
            "model.scheduler: torch's ReduceLROnPlateau does not name what it watches; give "
            "--model.scheduler lightning.pytorch.cli.ReduceLROnPlateau --model.scheduler.monitor val/loss"
        )
    monitor = scheduler.init_args.monitor
    if monitor not in MONITORED:
        raise ConfigError(f"model.scheduler.monitor must be one of {', '.join(MONITORED)}, got {monitor!r}")
    if monitor.startswith("val/") and config.data.val_size == 0:
        raise ConfigError(f"model.scheduler.monitor {monitor} needs a validation split: give data.val_size")


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
