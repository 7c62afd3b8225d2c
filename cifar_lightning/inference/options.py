"""The flags that `predict`, `export` and `demo` share, named as `test` names them, and the Predictor that they mean."""

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from cifar_lightning.config.flags import LOGS
from cifar_lightning.errors import ConfigError, VerbParser
from cifar_lightning.inference.predictor import Predictor
from cifar_lightning.nets.tta import Views
from cifar_lightning.runs import run_dir


class Parser(VerbParser):
    """The flags of a verb that uses a trained net."""

    def __init__(self, verb: str, description: str, epilog: str | None = None) -> None:
        super().__init__(verb, description, epilog)
        add = self.add_argument
        add("--ckpt", nargs="?", const="last", metavar="WHICH",
            help="the weights: a path, best or last of the newest run (alone: last), or pretrained: the package's own"
            )  # fmt: skip
        add("--model.net", dest="trusted", action="append", default=[], metavar="CLASS",
            help="a class from outside of this package that the checkpoint names, if you trust it")  # fmt: skip
        add("--trainer.default_root_dir", dest="logs", type=Path, default=Path(LOGS), metavar="DIR",
            help=f"where best and last are looked for (default: {LOGS})")  # fmt: skip

    def add_device_flags(self) -> None:
        """Where and how exactly the net runs, for verbs that run it on the user's images."""
        add = self.add_argument
        add("--trainer.accelerator", dest="accelerator", choices=("auto", "cpu", "gpu"), default="auto",
            help="where the net runs (default: a GPU where there is one)")  # fmt: skip
        add("--trainer.precision", dest="precision", metavar="PRECISION",
            help="such as 32-true (default: that of the checkpoint's run)")  # fmt: skip
        add("--tta", choices=get_args(Views), default="none",
            help="test-time augmentation: average over the mirror image too (flip), and over images moved by a "
            "pixel (flip_translate)")  # fmt: skip

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """The values of the flags. Raises ConfigError: a flag is wrong, or `--ckpt` is missing."""
        options = super().parse(argv)
        if options.ckpt is None:
            if self.verb == "export" or run_dir.newest_run(options.logs):
                raise ConfigError(f"{self.verb} needs weights: give --ckpt with a path, best, last or pretrained")
            options.ckpt = "pretrained"
            print(f"no run in {options.logs}: these are the weights in the package, --ckpt pretrained", file=sys.stderr)
        return options


def load_predictor(options: argparse.Namespace, **settings: Any) -> Predictor:
    """`Predictor.load` with the values of parsed flags; `settings` are what the verb decides itself."""
    if hasattr(options, "accelerator"):
        settings |= {"accelerator": options.accelerator, "precision": options.precision, "views": options.tta}
    return Predictor.load(options.ckpt, logs=options.logs, trusted=options.trusted, **settings)
