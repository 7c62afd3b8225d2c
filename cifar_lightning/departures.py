"""What makes a run that goes on another one than the run that was stopped, though nothing forbids it."""

from typing import Any

from cifar_lightning.settings import OFF, differing, flat

# With these a run is no longer the one that was stopped: all of data and model but what only says where things lie, how
# final weights are scored, and the optimizer's values, which were given to change the run; and of the Trainer these.
_NOT_TOLD = ("data.root", "data.seed", "model.tta", "model.optimizer")
_TOLD_OF_TRAINER = tuple(
    f"trainer.{name}"
    for name in (
        "precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches",
        "limit_val_batches", "val_check_interval", "check_val_every_n_epoch", "callbacks", "deterministic", "benchmark",
    )
)  # fmt: skip


def departures(
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
        (_flag(name), _or_off(old, name), _or_off(new, name)) for name in differing(old, new) if _is_told(name, old)
    ]
    pairs += [(name, machine_before.get(name, "unknown"), value) for name, value in machine.items()]
    changed = [f"{name} {was} before, {is_now} now" for name, was, is_now in pairs if was != is_now]
    return f"the run goes on, but not bit for bit as it would have: {'; '.join(changed)}" if changed else None


def _is_told(name: str, old: dict[str, Any]) -> bool:
    if name.startswith(_NOT_TOLD) or (name not in old and name not in OFF):  # younger than the checkpoint, and off
        return False
    return name.startswith(("data.", "model.", "seed_everything")) or name.startswith(_TOLD_OF_TRAINER)


def _flag(name: str) -> str:
    return name.replace(".init_args", "").replace(".class_path", "")


def _or_off(settings: dict[str, Any], name: str) -> Any:
    """The value of a setting; that which does nothing where there is none, as in checkpoints older than the setting."""
    value = settings.get(name)
    return OFF.get(name) if value is None else value


def setting(config: dict[str, Any], name: str) -> Any:
    """The value of a setting by its flag's name, such as `data.batch_size`; None where there is none."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
