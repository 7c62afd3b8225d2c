"""Settings that parse and that no run can have: refused before anything is built."""

from typing import Any

from cifar_lightning.errors import ConfigError

MONITORED = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


def check_settings(config: Any, verb: str) -> None:
    """Looks at a parsed configuration.

    Args:
        config: jsonargparse's Namespace.
        verb: 'fit', 'validate' or 'test'.

    Raises ConfigError: a setting is not supported, or would make the figures lie.
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
