"""From flags, YAML and a checkpoint to a resolved configuration and the objects that it describes."""

import argparse
import copy
import functools
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cifar_lightning import process, rendezvous
from cifar_lightning.classifier import Classifier
from cifar_lightning.config.flags import LOGS, OWN_FLAGS, SOURCES, TRAINER_DEFAULTS, all_flags
from cifar_lightning.config.foreign import ForeignNet, load_weights, untrained
from cifar_lightning.config.invocation import Invocation
from cifar_lightning.config.messages import constructor_complaint, explain, told
from cifar_lightning.config.validation import check_settings
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.data.layouts import LAYOUTS
from cifar_lightning.errors import CheckpointError, ConfigError
from cifar_lightning.optim.parameters import stand_ins
from cifar_lightning.optim.schedules import ProgressLR
from cifar_lightning.process import silence_known_warnings
from cifar_lightning.runs import checkpoint, environment, run_dir
from cifar_lightning.runs.checkpoint import Checkpoint

DEFAULT_RECIPE = "default"  # the folder of runs that no --config names

Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])  # numpy's range


class Experiment(LightningCLI):
    """One verb's configuration with the model and the data that it describes; `training.trainer` builds the Trainer.

    `--ckpt` is read first: the checkpoint's whole configuration comes before the files and the flags, which win.

    Args:
        verb: 'fit', 'validate' or 'test'.
        arguments: what stands behind the verb.

    Raises:
        ConfigError: a key, type or value is wrong, in one line.
        CheckpointError: `--ckpt` names nothing that can be loaded.
    """

    model: Classifier
    datamodule: CIFAR10DataModule

    def __init__(self, verb: str, arguments: list[str]) -> None:
        self.verb = verb
        self.arguments = arguments
        self.invocation = Invocation.read(arguments)
        self.checkpoint: Path | None = None  # what --ckpt resolved to
        self.loaded: Checkpoint | None = None  # and what it held when it was read
        # Devices of a node and nodes, where nobody names others.
        self.shape: tuple[int, int] = (found.devices, found.num_nodes) if (found := process.launcher()) else (1, 1)
        silence_known_warnings()
        if "--help-all" not in self.invocation.flags:
            self._read_checkpoint()
        try:
            self.foreign = ForeignNet.find(self.invocation.class_of("model.net"))
            if self.foreign is not None:
                self.foreign.route(self.invocation)
            super().__init__(
                Classifier,
                CIFAR10DataModule,
                run=False,
                save_config_callback=None,
                trainer_defaults=TRAINER_DEFAULTS | {"devices": self.shape[0], "num_nodes": self.shape[1]},
                parser_kwargs={"allow_abbrev": False, "exit_on_error": False},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
            # For their complaints: a rate out of range should not wait until the data are loaded.
            self.model.configure_optimizers()
            if verb == "fit":
                self._try_step()
        except (ValueError, TypeError, RuntimeError, AssertionError, LookupError, MisconfigurationException) as error:
            raise ConfigError(told(constructor_complaint(" ".join(str(error).split())))) from error

    def _try_step(self) -> None:
        """Lets optimizer and scheduler take a step with small parameters, which some of their arguments meet first."""
        optimizer, part = self.model.make_optimizer(stand_ins(self.model.net, self.accelerator)), "scheduler"
        try:
            # Before the optimizer's step, as in training: else torch warns that it has seen none.
            scheduler = self.model.make_scheduler(optimizer) if self.model.make_scheduler is not None else None
            part = "optimizer"
            optimizer.step(lambda: 0.0)
            part = "scheduler"
            if scheduler is not None and not isinstance(scheduler, (ProgressLR, ReduceLROnPlateau)):
                scheduler.step()
        except (RuntimeError, TypeError, ValueError, AssertionError, ArithmeticError) as error:
            hint = "; it may work with --model.channels_last false" if "stride" in str(error) else ""
            raise ValueError(f"model.{part}: {' '.join(str(error).split())}{hint}") from error

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Lightning's seed flag, without its true and false: every run here has a known seed."""
        default, about = OWN_FLAGS["seed_everything"]
        parser.add_argument("--seed_everything", type=Seed, default=default, help=about)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Our flags beside Lightning's."""
        parser.set_defaults({"model.net": {"class_path": SOURCES["model.net"]}})
        # Of a class that is named, jsonargparse would take over those of the default's arguments whose names fit.
        parser.set_defaults(dict.fromkeys(self.invocation.named_classes(), None))
        parser.link_arguments("seed_everything", "data.seed")
        parser.add_argument("--ckpt", nargs="?", const="last", help=OWN_FLAGS["ckpt"][1])
        if self.verb == "fit":
            default, about = OWN_FLAGS["final_test"]
            parser.add_argument("--final_test", type=bool, default=default, help=about)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses what was typed; errors come out as one line. `--help-all` prints every flag instead."""
        if "--help-all" in self.invocation.flags:
            parser.usage = f"python -m cifar_lightning {self.verb} [flags]"
            # Without the lists of all classes that Lightning and torch have of a kind.
            print(re.sub(r",\s+known\s+subclasses:[^)]*", "", parser.format_help()), end="")
            raise SystemExit(0)
        try:
            self.config = parser.parse_args(self.invocation.arguments())
        except argparse.ArgumentError as error:
            raise explain(str(error), all_flags(self.verb, self.invocation.named_classes())) from error

    def before_instantiate_classes(self) -> None:
        """Resolves what is left open, so that the saved configuration holds what ran."""
        trainer = self.config.trainer
        if str(trainer.devices) == "auto":
            trainer.devices = self.shape[0]  # where Lightning would take every GPU
        check_settings(self.config, self.verb)
        if str(trainer.devices).isdigit():
            os.environ[process.PER_NODE] = str(trainer.devices)  # an error before the Trainer is made names the rank
        self._set_classes()
        if self.verb != "fit":  # settings of the training that would cut the score short
            trainer.limit_val_batches, trainer.fast_dev_run, trainer.overfit_batches = None, False, 0.0
        if self.accelerator == "cpu" and not torch.cuda.is_available():
            process.skip_gpu_search()
        self.has_precision = trainer.precision is not None
        if not self.has_precision:
            trainer.precision = environment.native_precision(self.accelerator)
        elif self.accelerator == "cpu" and str(trainer.precision) in ("16", "16-mixed"):
            trainer.precision = "bf16-mixed"  # as Lightning does, and so recorded

    @property
    def accelerator(self) -> str:
        """Lightning's name of the accelerator that the Trainer takes: 'cpu', 'cuda' or 'mps'."""
        return environment.accelerator_of(str(self.config.trainer.accelerator))

    def instantiate_classes(self) -> None:
        """Builds model and data; the Trainer waits until the run has a folder."""
        asked, config = self.config.model.net, self.config.clone()
        config.model.net = untrained(asked)
        self.config_init = self.parser.instantiate(config)
        self.datamodule = self.config_init.data
        self.model = self.config_init.model
        if config.model.net is not asked and self.loaded is None:  # else the checkpoint has the weights
            new = load_weights(self.model.net, asked.as_dict(), self.num_classes)
            print(f"net     trained weights of {asked.class_path}; from scratch: {', '.join(new) or 'nothing'}")

    @property
    def num_classes(self) -> int:
        """How many the data have."""
        return len(LAYOUTS[self.config.data.dataset].class_names)

    def digests(self) -> dict[str, str]:
        """What all processes of a run must have in common, by name."""
        settings = self.resolved()
        for group, name in (key.split(".") for key in checkpoint.FOLDERS):
            settings[group].pop(name)
        return {
            "checkpoint": self.loaded.sha256 if self.loaded else "",
            "settings": yaml.safe_dump(settings),
            "data": self.datamodule.source,
            "code": environment.package_digest(),
        }

    @property
    def seed(self) -> int:
        """The run's seed, as a number that a checkpoint can hold."""
        return int(self.config.seed_everything)

    @property
    def logs(self) -> Path:
        """Where runs go."""
        return Path(self.config.trainer.default_root_dir)

    @property
    def recipe(self) -> str:
        """The name of the configuration: of the first --config or of the checkpoint, and what the flags change."""
        return self.invocation.recipe(self.loaded.identity["recipe"] if self.loaded is not None else DEFAULT_RECIPE)

    @cached_property
    def resolved_yaml(self) -> str:
        """The configuration with every default filled in; `--config` takes it back."""
        config = _writable(self.config.clone())
        for key in ("config", "ckpt"):
            config.pop(key, None)
        written: str = self.parser.dump(config, skip_unset=False)
        if (fault := re.search(r"(\w+): Unable to serialize instance (.*)", written)) is not None:
            raise ConfigError(f"{fault[1]}: {fault[2]} cannot be written to config.yaml, nor a run with it go on")
        return written

    def resolved(self) -> dict[str, Any]:
        """The same as JSON types."""
        return yaml.safe_load(self.resolved_yaml)

    def _set_classes(self) -> None:
        """A net that takes `num_classes` gets the data's, unless it is given."""
        net, group = self.config.model.net, self.foreign.classes_group if self.foreign is not None else "init_args"
        names = [f"model.net.{inner}num_classes" for inner in ("", "init_args.", "dict_kwargs.")]
        if group is None or any(self.invocation.last(name) is not None for name in names):
            return
        if group == "dict_kwargs":
            net[group] = {**(net.get(group) or {}), "num_classes": self.num_classes}
        elif (net.get(group) or {}).get("num_classes", self.num_classes) != self.num_classes:
            net[group]["num_classes"] = self.num_classes
        else:
            return
        print(f"net     {net.class_path}: num_classes {self.num_classes}, as the data have")

    def _read_checkpoint(self) -> None:
        restarted = rendezvous.interrupted_checkpoint() if self.verb == "fit" else None
        which = str(restarted) if restarted else self.invocation.ckpt
        if which is None:
            if self.verb != "fit":
                raise ConfigError(f"{self.verb} needs weights: give --ckpt with a path, best, last or pretrained")
            return
        self.checkpoint = run_dir.find_checkpoint(which, Path(self.invocation.last("trainer.default_root_dir") or LOGS))
        self.loaded = checkpoint.load(self.checkpoint)
        if self.verb == "fit" and "optimizer_states" not in self.loaded.content:
            raise CheckpointError(f"{self.checkpoint} holds weights alone, and no training that could go on")
        config = copy.deepcopy(self.loaded.config)
        if self.verb != "fit":
            config.pop("final_test", None)  # a setting of fit alone
            config["trainer"].pop("strategy", None)
        if self.verb != "fit" or process.launcher():  # scores do not depend on them; else they are the launcher's
            for name in ("devices", "num_nodes"):
                config["trainer"].pop(name, None)
        for key, class_path in checkpoint.foreign_classes(config).items():
            given = self.invocation.flags
            if not restarted and not any(class_path in (flag, flag.partition("=")[2]) for flag in given):
                raise CheckpointError(
                    f"{self.checkpoint} names the class {class_path}, which would be imported; "
                    f"if you trust it, add --{key.replace('.init_args', '')} {class_path}"
                )
        self.invocation.layers.insert(0, config)  # before everything else


def _writable(value: Any) -> Any:
    """A configuration without what YAML cannot hold: defaults that are objects, which reading it back fills in."""
    if isinstance(value, Namespace):
        objects = (torch.device, functools.partial)
        kept = {name: _writable(inner) for name, inner in vars(value).items() if not isinstance(inner, objects)}
        return Namespace(**kept)
    if isinstance(value, list):
        return [_writable(inner) for inner in value]
    return str.__str__(value) if isinstance(value, str) else value  # an enum's member that is a string, too
