"""The flags that say where runs run; `study` and `search` share them."""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from cifar_lightning.config.flags import LOGS
from cifar_lightning.errors import ConfigError, VerbParser
from cifar_lightning.runner.job import Runner
from cifar_lightning.runner.local import LocalRunner, job_environments
from cifar_lightning.runner.on_ray import RayRunner


def add_options(parser: VerbParser) -> argparse._MutuallyExclusiveGroup:
    """Adds the flags; returns the group that `--jobs` and `--ray` exclude each other in."""
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--jobs", type=int, metavar="N", help="runs side by side; by default one for each GPU, or one")
    way.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: its address, auto, or local (extra [ray])")
    parser.add_argument("--cpus-per-run", type=int, metavar="N", help="CPUs of a run, which are its threads")
    parser.add_argument("--gpus-per-run", type=float, metavar="N", help="GPUs of a run; 0.5: two runs share one")
    parser.add_argument(
        "--logs", type=Path, default=Path(LOGS), metavar="DIR", help=f"where runs go; by default {LOGS}"
    )
    return way


def local_environments(options: argparse.Namespace, devices: int) -> list[dict[str, str]]:
    """The variables of each run that has a place on this machine; none with `--ray`.

    Args:
        options: as parsed.
        devices: that a run trains on.

    Raises ConfigError: a number is too small, or the machine has not what the runs want.
    """
    cpus, gpus = options.cpus_per_run, options.gpus_per_run
    if (cpus is not None and cpus < 1) or (gpus or 0) < 0:
        raise ConfigError("--cpus-per-run must be at least 1, and --gpus-per-run at least 0")
    return job_environments(options.jobs, devices, cpus, gpus) if options.ray is None else []


def runner_of(
    options: argparse.Namespace, devices: int, folder: Path, inherited: Sequence[int] = ()
) -> AbstractContextManager[Runner]:
    """What runs the runs.

    Args:
        options: as parsed.
        devices: that a run trains on.
        folder: where the runs write.
        inherited: descriptors that processes of this machine keep open.

    Raises:
        ConfigError: a number is too small, the machine has not what the runs want, or there is no such Ray cluster.
        OutputError: a node does not see the folder.
    """
    environments = local_environments(options, devices)
    if options.ray is None:
        return nullcontext(LocalRunner(environments, inherited))
    return RayRunner(options.ray, options.cpus_per_run or 1, options.gpus_per_run, devices, folder)
