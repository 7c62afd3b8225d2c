"""Slots: which part of the machine each of the runs side by side may use, so that they do not fight for it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cifar_lightning.errors import ConfigError

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Slot:
    """A run's share: its cores (empty: all, as without a study) and its GPU's number (None: as without a study)."""

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        """What the run's process gets set."""
        settings = dict.fromkeys(THREAD_SETTINGS, str(len(self.cores))) if self.cores else {}
        return settings | ({"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu is not None else {})


def make_slots(jobs: int | None, devices_per_run: int = 1) -> list[Slot]:
    """The slots of `--jobs`.

    A single run has the machine as `fit` alone would. Several share out the cores evenly, a thread to each core; on
    GPUs they go round them.

    Args:
        jobs: runs side by side; by default one for each GPU, or one on a CPU.
        devices_per_run: what the study's largest run asks for.

    Raises:
        ConfigError: there are more jobs than cores, or the runs want several devices each.
    """
    return share_out(jobs, devices_per_run, _cores(), _gpus())


def share_out(jobs: int | None, devices_per_run: int, cores: Sequence[int], gpus: Sequence[str]) -> list[Slot]:
    """The same for a given machine: the numbers of its cores and the names of its GPUs."""
    if jobs is None:
        jobs = len(gpus) if gpus and devices_per_run == 1 else 1
    if jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {jobs}")
    if jobs == 1:
        return [Slot()]
    if devices_per_run > 1:
        raise ConfigError(f"--jobs {jobs}: a system of this study trains on {devices_per_run} devices; give --jobs 1")
    share = len(cores) // jobs
    if share < 1:
        raise ConfigError(f"--jobs {jobs}: this machine has {len(cores)} cores; give at most that")
    return [
        Slot(tuple(cores[slot * share : (slot + 1) * share]), gpus[slot % len(gpus)] if gpus else None)
        for slot in range(jobs)
    ]


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):  # Linux: those that this process may use
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name for name in visible.split(",") if name] or [str(index) for index in range(torch.cuda.device_count())]
