"""RunState: what a checkpoint needs beyond Lightning's own content to go on exactly, and to stand alone."""

import random
import sys
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning import distributed
from cifar_lightning.classifier import Classifier
from cifar_lightning.data.sampler import RANK_STREAM, generator_for
from cifar_lightning.runs import environment
from cifar_lightning.runs.checkpoint import KEY
from cifar_lightning.runs.settings import config_diff


class RunState(Callback):
    """Puts the whole resolved configuration, the random states and the machine's fingerprint into every checkpoint.

    With the configuration `test --ckpt` rebuilds net, data settings and precision from the file alone. Lightning saves
    no random state; with it, dropout goes on as if the run had not been cut.

    Args:
        config: the resolved configuration as YAML.
        identity: what the run is (recipe, seed, data), for whoever holds only the file.
        optimizer_changes: settings of the optimizer, such as `lr`, that flags changed on this resume. Lightning
            restores the optimizer with its old settings, so they are set after that.
    """

    def __init__(self, config: str, identity: dict[str, Any], optimizer_changes: dict[str, Any]) -> None:
        self.config = config
        self.identity = identity
        self.optimizer_changes = optimizer_changes
        self._random: dict[str, Any] | None = None
        self._before: dict[str, Any] | None = None  # our section of the checkpoint, until the training goes on

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds our section."""
        checkpoint[KEY] = {
            "config": self.config,
            "identity": self.identity,
            "random": distributed.gathered(_random_states()),
            "machine": environment.fingerprint(pl_module.device, trainer.world_size),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the random states until everything is built, which draws numbers too."""
        self._before = checkpoint[KEY]
        states = checkpoint[KEY]["random"]
        self._random = states[trainer.global_rank] if trainer.global_rank < len(states) else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the random states back, and the flags in force; tells what makes it another run."""
        if self._before is not None:
            # Here and not earlier: with several processes Lightning has only now given each its threads.
            machine = environment.fingerprint(pl_module.device, trainer.world_size)
            before, now = (yaml.safe_load(text) for text in (self._before["config"], self.config))
            told = config_diff(before, now, self._before.get("machine", {}), machine)
            if told and trainer.is_global_zero:
                print(f"warning: {told}", file=sys.stderr)
            self._before = None
        if self.optimizer_changes:
            assert isinstance(pl_module, Classifier)
            # Made anew with the flags, since one setting can be meant for one of several groups.
            anew = pl_module.build_optimizer()
            for group, wanted in zip(trainer.optimizers[0].param_groups, anew.param_groups, strict=True):
                group.update({name: value for name, value in wanted.items() if name != "params"})
        if self._random is not None:
            _restore_random_states(self._random)
            self._random = None
        elif trainer.global_rank > 0:  # every process began with the run's seed: each gets its own random stream
            stream = generator_for(self.identity["seed"], trainer.current_epoch, RANK_STREAM, trainer.global_rank)
            torch.manual_seed(stream.initial_seed())


def _random_states() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        # Plain lists: the safe unpickler knows no numpy scalars and no numpy arrays.
        "numpy": [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }


def _restore_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    # On another number of GPUs there is nothing to restore exactly; the run's fingerprint differs anyway.
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
