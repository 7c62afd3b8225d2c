"""From a system's flags to what it will train: the resolved settings, the net's layers, its operations per image."""

from dataclasses import dataclass
from typing import Any

from cifar_lightning.config import Experiment
from cifar_lightning.errors import ConfigError, UserError
from cifar_lightning.flops import count
from cifar_lightning.layer_table import LayerTable, layer_table
from cifar_lightning.settings import settings_of
from cifar_lightning.study.definition import System


@dataclass(frozen=True)
class Resolved:
    """What a system is on this machine."""

    settings: dict[str, Any]  # flat, without seed and places, and without what the machine chose
    config: dict[str, Any]  # as run.json holds it
    layers: LayerTable
    train_flop_per_image: float  # forward, backward and update, at the system's batch size
    evaluation_flop_per_image: float
    devices: int

    @property
    def max_epochs(self) -> int:
        """Epochs of a whole run."""
        return int(self.config["trainer"]["max_epochs"])

    def images_per_epoch(self, training_images: int) -> int:
        """How many of them an epoch shows: all, unless `trainer.limit_train_batches` ends it before."""
        batch_size, limit = int(self.config["data"]["batch_size"]), self.config["trainer"]["limit_train_batches"]
        batches = -(-training_images // batch_size)
        if isinstance(limit, float):
            batches = int(batches * limit)
        elif limit is not None:
            batches = min(batches, limit)
        return min(training_images, batches * batch_size)


class _Unresolved(Experiment):
    """Keeps which precision was asked for, before the machine's own fills the gap."""

    asked_precision: str | None = None

    def before_instantiate_classes(self) -> None:
        self.asked_precision = self.config.trainer.precision
        super().before_instantiate_classes()


def resolve(system: System) -> Resolved:
    """Builds the system's net once. The precision is no part of a run's identity where the machine chooses it.

    Raises:
        ConfigError: `fit` would refuse the settings; the message names the system.
    """
    try:
        experiment = _Unresolved("fit", system.flags())
    except UserError as error:
        raise ConfigError(f"system {system.name}: {error}") from error
    config = experiment.resolved()
    max_epochs = config["trainer"]["max_epochs"]
    if max_epochs is None or max_epochs < 1:
        raise ConfigError(f"system {system.name}: trainer.max_epochs must be at least 1 in a study, got {max_epochs}")
    for name, off in (("max_steps", -1), ("max_time", None), ("fast_dev_run", False)):
        if config["trainer"][name] != off:
            raise ConfigError(
                f"system {system.name}: trainer.{name} cannot be set in a study, whose runs are whole; use "
                "trainer.max_epochs and trainer.limit_train_batches"
            )
    if config["trainer"]["limit_train_batches"] == 0:
        raise ConfigError(f"system {system.name}: trainer.limit_train_batches 0 leaves nothing to train")
    if not config["final_test"]:
        raise ConfigError(f"system {system.name}: final_test must be true in a study, which compares final scores")
    settings = settings_of(config)
    if experiment.asked_precision is None:
        del settings["trainer.precision"]
    devices = config["trainer"]["devices"]
    layers = layer_table(experiment.model.net)
    batch_size = experiment.datamodule.batch_size
    counted = count(experiment.model, batch_size)
    return Resolved(
        settings, config, layers, counted["step"] / batch_size, counted["evaluation_per_image"],
        len(devices) if isinstance(devices, list) else int(devices),
    )  # fmt: skip
