"""What makes a run that goes on another one than the run that was stopped, though nothing forbids it."""

from typing import Any

from cifar_lightning.settings import OFF

# Settings that may change, and with which a run is no longer the one that was stopped.
TOLD = (
    "data.batch_size", "seed_everything", "data.augment", "trainer.precision", "trainer.accumulate_grad_batches",
    "model.label_smoothing",
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
    pairs = [(name, _or_off(before, name), _or_off(now, name)) for name in TOLD]
    pairs += [(name, machine_before.get(name, "unknown"), value) for name, value in machine.items()]
    changed = [f"{name} {old} before, {new} now" for name, old, new in pairs if old != new]
    return f"the run goes on, but not bit for bit as it would have: {'; '.join(changed)}" if changed else None


def _or_off(config: dict[str, Any], name: str) -> Any:
    """The value of a setting; that which does nothing where there is none, as in checkpoints older than the setting."""
    value = setting(config, name)
    return OFF.get(name) if value is None else value


def setting(config: dict[str, Any], name: str) -> Any:
    """The value of a setting by its flag's name, such as `data.batch_size`; None where there is none."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
