"""What is tried before a run's folder exists: the net on the data's images, and the weights of a checkpoint."""

from typing import Any

from lightning.pytorch import Trainer

from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError
from cifar_lightning.nets.summary import LayerTable, NotOneTensorError, check_training, layer_table, shape_text
from cifar_lightning.training.resume import optimizer_changes


def check_net(experiment: Experiment) -> LayerTable:
    """The net's layers; raises ConfigError where it cannot take the data's images or does not give their classes."""
    net, data = experiment.model.net, experiment.datamodule
    name, classes = type(net).__name__, len(data.class_names)
    try:
        check_training(net, images=2)
        table = layer_table(net)
    except NotOneTensorError as error:
        fix = "; --model.net.aux_logits false leaves out the others" if hasattr(net, "aux_logits") else ""
        raise ConfigError(f"model.net: {name} gives {error} in training, and not one tensor{fix}") from error
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        larger = "" if experiment.config.model.input_size else "; --model.input_size 224 would enlarge the images"
        reason = " ".join(str(error).split())
        raise ConfigError(f"model.net: {name} cannot take a 3x32x32 image: {reason}{larger}") from error
    for side in sorted(set(data.augment.sizes or [])):
        try:
            check_training(net, images=2, side=side)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"data.augment.sizes: {name} cannot take images of {side}x{side}: {reason}") from error
    if table.output_shape != (classes,):
        raise ConfigError(f"the net gives {shape_text(table.output_shape)} outputs, the data have {classes} classes")
    return table


def check_single_images(experiment: Experiment, trainer: Trainer) -> None:
    """Raises ConfigError where a device gets a batch of one image, and the net's batch norm cannot train on that."""
    data, limit = experiment.datamodule, experiment.config.trainer.limit_train_batches
    size, devices = data.sizes["train"], 1 if experiment.config.trainer.sync_batchnorm else trainer.world_size
    batches = -(-size // data.batch_size)
    is_cut = limit is not None and (limit if isinstance(limit, int) else int(limit * batches)) < batches
    if 1 not in (data.batch_size // devices, 0 if is_cut else size % data.batch_size // devices):
        return
    try:
        check_training(experiment.model.net, images=1)
    except ValueError as error:  # batch norm's
        among = f" for each of {devices} devices" if devices > 1 else ""
        raise ConfigError(
            f"model.net: {type(experiment.model.net).__name__} cannot train on a batch of one image{among}, as "
            f"data.batch_size {data.batch_size} makes of {size:,}: {error}; give another --data.batch_size"
        ) from error


def check_resume(experiment: Experiment) -> dict[str, Any]:
    """Before anything is written: do the weights fit, and may the settings that changed change?"""
    if experiment.loaded is None:
        return {}
    experiment.loaded.load_into(experiment.model)
    return optimizer_changes(experiment.loaded, experiment.resolved())
