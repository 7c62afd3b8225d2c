"""Runs jobs in processes of this machine."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence

import torch

from cifar_lightning.errors import ConfigError
from cifar_lightning.runner.job import Job, start, threads_of


def job_environments(
    jobs: int | None, devices_per_run: int, cpus_per_run: int | None = None, gpus_per_run: float | None = None
) -> list[dict[str, str]]:
    """The environment variables that each of `--jobs` runs side by side gets set.

    A single run has the machine as `fit` alone would. Several share the cores by their number of threads, and take the
    GPUs in turn. By default there are as many as have the CPUs and GPUs that are asked for; without such a wish one for
    each GPU, or one where there is none.

    Raises ConfigError: the machine has not what the runs want.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu_count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpu_count)))
    gpus = names.split(",")[:gpu_count]
    share = gpus_per_run if gpus_per_run is not None else devices_per_run if gpus else 0
    if jobs is None:
        room = [cores // cpus_per_run] if cpus_per_run else []
        jobs = max(1, min(room + ([int(len(gpus) / share)] if share else []), default=1))
    if jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {jobs}")
    if jobs * (cpus_per_run or 1) > cores:
        wish = f"--jobs {jobs}" + (f" with --cpus-per-run {cpus_per_run}" if cpus_per_run else "")
        raise ConfigError(f"{wish}: this machine has {cores} cores; give at most that")
    if gpus_per_run and gpus_per_run > len(gpus):
        raise ConfigError(f"--gpus-per-run {gpus_per_run:g}: this machine has {len(gpus)} GPUs; give at most that")
    if jobs == 1 and cpus_per_run is None and gpus_per_run is None:
        return [{}]
    if jobs > 1 and devices_per_run > 1 and jobs * devices_per_run > len(gpus) and cpus_per_run is None:
        raise ConfigError(f"--jobs {jobs}: a system of this study trains on {devices_per_run} devices; give --jobs 1")

    def visible(job: int) -> str:
        first = int(job * share)
        return ",".join(gpus[(first + number) % len(gpus)] for number in range(max(1, int(share)))) if share else ""

    threads = threads_of(cpus_per_run or cores // jobs, devices_per_run)
    return [threads | ({"CUDA_VISIBLE_DEVICES": visible(job)} if gpus else {}) for job in range(jobs)]


class LocalRunner:
    """Runs one job at a time in each of `environments`; what it starts inherits the `inherited` descriptors."""

    def __init__(self, environments: Sequence[Mapping[str, str]], inherited: Sequence[int] = ()) -> None:
        self.running: dict[Job, str] = {}
        self.room = len(environments)
        self._inherited = inherited
        self._waiting: list[Job] = []
        self._dropped: list[Job] = []
        self._free = list(reversed(environments))
        self._processes: dict[Job, tuple[subprocess.Popen[bytes], Mapping[str, str]]] = {}

    def submit(self, job: Job) -> None:
        """See Runner."""
        self._waiting.append(job)

    def ended(self, timeout_s: float) -> list[tuple[Job, int | None]]:
        """See Runner."""
        while self._free and self._waiting:
            job, environment = self._waiting.pop(0), self._free.pop()
            self._processes[job] = start(job, environment, self._inherited), environment
            self.running[job] = ""
        time.sleep(timeout_s)
        dropped, self._dropped = self._dropped, []
        ended = [job for job, (process, _) in self._processes.items() if process.poll() is not None]
        for job in ended:
            del self.running[job]
            self._free.append(self._processes[job][1])
        return [(job, self._processes.pop(job)[0].returncode) for job in ended] + [(job, None) for job in dropped]

    def stop(self, signum: int) -> None:
        """See Runner. What runs gets this signal."""
        self._dropped, self._waiting = self._dropped + self._waiting, []
        for process, _ in self._processes.values():
            process.send_signal(signum)  # nothing where it has ended

    def end(self, job: Job) -> None:
        """See Runner."""
        if job in self._processes:
            self._processes[job][0].terminate()  # nothing where it has ended
