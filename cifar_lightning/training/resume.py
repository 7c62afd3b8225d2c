"""What may change when a run goes on from a checkpoint: a written policy, so that no flag loses in silence.

docs/resuming.md has the policy as a table. Flags win over the checkpoint's configuration. Where the checkpoint's state
would undo a flag, or the flag would make the run's figures lie, it is refused by name instead. Other changes are taken
with one line that says so (`runs/settings.py`).
"""

from typing import Any

from cifar_lightning.errors import ConfigError
from cifar_lightning.optim import schedules
from cifar_lightning.runs.checkpoint import Checkpoint
from cifar_lightning.runs.settings import NEUTRAL_DEFAULTS, differing, flat, setting

# What a checkpoint's weights have seen: kept by everything that goes on from it or scores it.
FROZEN_DATA = {
    "data.dataset": "the checkpoint trained on the other data set",
    "data.source": "the checkpoint trained on the other data set",
    "data.val_size": "images that have trained would validate",
    "data.split_seed": "images that have trained would validate",
}
# Settings that a run keeps from its first step to its last.
FROZEN_ON_RESUME = {
    **FROZEN_DATA,
    "model.optimizer.class_path": "the checkpoint holds the state of another optimizer",
    "model.head_lr": "the checkpoint holds the optimizer's state of other groups",
    "model.decay_vectors": "the checkpoint holds the optimizer's state of other groups",
    "model.scheduler": "the checkpoint holds the state of another schedule",
    "model.scheduler_interval": "the checkpoint holds the state of another schedule",
}
# Settings that a run keeps while one of our schedules counts its steps.
FROZEN_WITH_SCHEDULE = ("data.batch_size", "trainer.accumulate_grad_batches", "trainer.limit_train_batches")
# Settings that a run keeps within an epoch: the checkpoint names the next batch by its number.
FROZEN_WITHIN_EPOCH = ("data.batch_size", "data.augment", "seed_everything")


def optimizer_changes(loaded: Checkpoint, now: dict[str, Any]) -> dict[str, Any]:
    """Checks the changes of settings between a checkpoint and the run that goes on from it.

    Args:
        loaded: the checkpoint.
        now: the resolved configuration with the flags.

    Returns:
        The optimizer's settings that changed, such as `lr`: restoring its state would undo them, so they must be set
        once more afterwards.

    Raises ConfigError: a setting changed that must not.
    """
    before, limit = loaded.config, setting(now, "trainer.max_epochs")
    check_frozen(before, now, FROZEN_ON_RESUME)
    if str(setting(now, "model.optimizer.class_path")).endswith(".MuonSGD"):
        check_frozen(before, now, {"model.freeze": "MuonSGD has a state for what has trained alone"})
    if limit is not None and 0 <= limit < loaded.epochs:
        raise ConfigError(
            f"trainer.max_epochs {limit} is below the {loaded.epochs} epochs that the checkpoint has; raise it"
        )
    if loaded.epochs <= int(loaded.content["epoch"]):  # written between two batches of an epoch
        for name in FROZEN_WITHIN_EPOCH:
            if any(f"{changed}.".startswith(f"{name}.") for changed in differing(flat(before), flat(now))):
                raise ConfigError(
                    f"{name} cannot change in the middle of an epoch ({setting(before, name)} before); "
                    "go on without it until the epoch's end, or start a new run"
                )
    if str(setting(now, "model.scheduler.class_path")).startswith(schedules.__name__):
        check_frozen(before, now, dict.fromkeys(FROZEN_WITH_SCHEDULE, "the schedule has counted its steps by it"))
    old, new = setting(before, "model.optimizer.init_args"), setting(now, "model.optimizer.init_args")
    changes = {name: value for name, value in new.items() if old.get(name) != value}
    if changes and setting(now, "model.scheduler") is not None:
        raise ConfigError(
            f"model.optimizer.{next(iter(changes))} cannot change when a run with a scheduler goes on: "
            "the schedule's state holds its rates; leave it out or start a new run"
        )
    return changes


def check_frozen(before: dict[str, Any], now: dict[str, Any], kept: dict[str, str]) -> None:
    """Raises ConfigError where one of the `kept` settings changed; `kept` gives the reason of each."""
    for name, reason in kept.items():
        was = setting(before, name)  # None in a checkpoint that is older than the setting
        if (NEUTRAL_DEFAULTS.get(name) if was is None else was) != setting(now, name):
            raise ConfigError(f"{name} cannot change from what the checkpoint has: {reason}; leave it out")
