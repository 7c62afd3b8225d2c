"""Settings that parse and that no run can have: refused before anything is built."""

import os
from typing import Any

from cifar_lightning import process
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs import environment

LATE = "would change a setting after config.yaml is written"
BAR = "fit has a bar of its own; --trainer.enable_progress_bar false hides it"
REFUSED = {  # Lightning's callbacks that cannot work here; BaseFinetuning and ProgressBar are for deriving from
    "BackboneFinetuning": "needs a `backbone`; --model.freeze and --model.head_lr train a part of any net",
    "BaseFinetuning": "freezes nothing by itself; --model.freeze and --model.head_lr train a part of any net",
    "BatchSizeFinder": f"{LATE}; find one in a plain Trainer (examples/plain_trainer.ipynb), and give it as "
    "--data.batch_size",
    "LearningRateFinder": f"{LATE}; python -m cifar_lightning find-lr proposes one, with the same flags",
    "ModelPruning": "renames the weights, so that a run cannot go on; prune in a plain Trainer",
    "ProgressBar": BAR,
    "RichProgressBar": BAR,
    "SpikeDetection": "cannot be read back from a checkpoint, so that a run cannot go on",
    "StochasticWeightAveraging": "trains an epoch more than trainer.max_epochs; EMAWeightAveraging averages as asked",
    "TQDMProgressBar": BAR,
}
MONITORED = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


def check_settings(config: Any, verb: str) -> None:
    """Looks at a parsed configuration.

    Args:
        config: jsonargparse's Namespace.
        verb: 'fit', 'validate' or 'test'.

    Raises ConfigError: a setting is not supported, or would make the figures lie.
    """
    trainer = config.trainer
    if found := process.launcher():
        shape = str(found.devices), found.num_nodes
        if (str(trainer.devices), trainer.num_nodes) != shape or found.world_size % found.num_nodes:
            raise ConfigError(
                f"{found.name} has started {found.world_size} process(es) on {found.num_nodes} node(s): leave out "
                "--trainer.devices and --trainer.num_nodes, and start as many on each node"
            )
    elif str(trainer.devices) != "1" and os.environ.get("LOCAL_RANK") == "0":  # Lightning numbers its own from 1
        raise ConfigError("LOCAL_RANK is set, but not by torchrun or srun: start one process, or use one of these")
    elif trainer.num_nodes != 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= os.environ.keys():
        raise ConfigError(
            f"trainer.num_nodes {trainer.num_nodes}: start it with torchrun or srun, or on each node with MASTER_ADDR, "
            "MASTER_PORT and NODE_RANK set (docs/scaling.md)"
        )
    elif trainer.num_nodes <= int(os.environ.get("NODE_RANK", "0")):
        raise ConfigError(f"NODE_RANK is {os.environ['NODE_RANK']}, and trainer.num_nodes is {trainer.num_nodes}")
    if trainer.sync_batchnorm and environment.accelerator_of(str(trainer.accelerator)) == "cpu":
        raise ConfigError("trainer.sync_batchnorm needs GPUs: torch has none for a CPU; leave it out")
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):  # Lightning would divide by them
        if trainer[name] is not None and trainer[name] < 1:
            raise ConfigError(f"trainer.{name} must be at least 1, got {trainer[name]}")
    if trainer.val_check_interval == 0:
        raise ConfigError("trainer.val_check_interval must be above 0; --data.val_size 0 leaves validation out")
    if trainer.strategy not in ("auto", "ddp"):
        raise ConfigError(f"trainer.strategy must be auto or ddp, got {trainer.strategy!r}")
    for name, example in (("data.augment", "flip"), ("model.tta", "views")):
        if config[name] is None:
            raise ConfigError(f"{name}: expected settings such as {name}.{example}, got null; leave it out")
    _check_monitor(config)
    arguments = getattr(config.model.optimizer, "init_args", None) or {}
    if arguments.get("fused") and trainer.gradient_clip_val and str(trainer.precision) in ("16", "16-mixed"):
        raise ConfigError(
            "trainer.gradient_clip_val: in 16-mixed a fused optimizer scales the gradients itself, after "
            "the clipping; leave out --model.optimizer.fused, or give --trainer.precision bf16-mixed"
        )
    _check_callbacks(config)
    if trainer.barebones:
        raise ConfigError("trainer.barebones would leave out what fit is for; it is for a plain Trainer")
    if trainer.limit_test_batches is not None:
        raise ConfigError("trainer.limit_test_batches is not supported: the test set is scored whole or not at all")


def _check_callbacks(config: Any) -> None:
    given = config.trainer.callbacks or []
    validates = config.data.val_size and config.trainer.limit_val_batches != 0
    callbacks = {callback.class_path: callback for callback in (given if isinstance(given, list) else [given])}
    for class_path, callback in callbacks.items():
        name = class_path.rpartition(".")[2]
        if name in REFUSED and class_path.startswith("lightning."):
            raise ConfigError(f"trainer.callbacks: {name}: {REFUSED[name]}")
        monitor = getattr(callback.init_args, "monitor", None) if "init_args" in callback else None
        known = [metric for metric in MONITORED if validates or not metric.startswith("val/")]
        # A callback of somebody else's may log what another one watches.
        if monitor not in (None, *known) and all(path.startswith("lightning.") for path in callbacks):
            raise ConfigError(f"trainer.callbacks: {name} watches {monitor!r}; there is {', '.join(known)}")


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
    if monitor.startswith("val/") and config.trainer.limit_val_batches == 0:
        raise ConfigError(f"model.scheduler.monitor {monitor} needs validations: leave out trainer.limit_val_batches 0")
