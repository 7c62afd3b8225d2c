"""Runs jobs on the nodes of a Ray cluster, which share a folder."""

import contextlib
import logging
import os
import platform
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import Self

from cifar_lightning.errors import ConfigError, OutputError
from cifar_lightning.runner.job import POLL_S, Job, start, threads_of

# What a node gets from here where it has none of its own.
PASSED_ON = (*(f"CIFAR{classes}_{what}" for classes in (10, 100) for what in ("ROOT", "MIRROR")), "PYTHONPATH")
PROBE_S = 60.0
TERMINATED = (128 + signal.SIGTERM, -signal.SIGTERM)  # the second before a run has its handler


class RayRunner:
    """Runs each job as a task of a Ray cluster, which decides where and when. Ends its connection with the context.

    Args:
        address: of the cluster; 'auto' finds the one of this machine, 'local' starts one here.
        cpus: that a job needs.
        gpus: that a job needs, 0.5 for half of one; None: `devices` where the cluster has GPUs, else none.
        devices: that a job computes on.
        folder: where the jobs write; every node that can run them must see it.

    Raises:
        ConfigError: Ray is not installed, there is no such cluster, or none of its nodes has what a job needs.
        OutputError: a node does not see the folder.
    """

    def __init__(self, address: str, cpus: int, gpus: float | None, devices: int, folder: Path) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ModuleNotFoundError:
            raise ConfigError("--ray needs Ray: pip install 'cifar_lightning[ray]'") from None
        self._ray: Any = ray
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--ray {address}: {str(error).splitlines()[0]}") from error
        if gpus is None:
            gpus = devices if ray.cluster_resources().get("GPU") else 0
        # No retries by Ray: they would run the same command, from the beginning.
        self._work = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_work)
        self._threads = threads_of(cpus, devices)
        self._passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._tasks: dict[Any, Job] = {}  # by the generator of what `_work` yields
        self._stops = 0
        self.running: dict[Job, str] = {}
        try:
            self._probe(folder.resolve(), cpus, gpus)
        except BaseException:
            ray.shutdown()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()

    def submit(self, job: Job) -> None:
        """See Runner."""
        self._tasks[self._work.remote(job, self._passed_on, self._threads)] = job

    def ended(self, timeout_s: float) -> list[tuple[Job, int | None]]:
        """See Runner."""
        if not self._tasks:
            time.sleep(timeout_s)
            return []
        ended = list[tuple[Job, int | None]]()
        errors = self._ray.exceptions
        for task in self._ray.wait(list(self._tasks), num_returns=1, timeout=timeout_s, fetch_local=False)[0]:
            job = self._tasks[task]
            exit_code: int | None = None
            try:
                word = self._ray.get(next(task))
                if isinstance(word, str):
                    self.running[job] = word
                    continue
                # A SIGTERM that is not from here: its node goes down.
                exit_code = None if word in TERMINATED and not self._stops else word
            except errors.TaskCancelledError:
                exit_code = 128 + signal.SIGTERM if job in self.running else None
            except errors.RayTaskError as error:
                raise error.cause from None
            except errors.RayError:  # its worker, its node, or the memory there is gone
                pass
            del self._tasks[task]
            ended.append((job, exit_code))
        return ended

    def stop(self, signum: int) -> None:
        """See Runner. What runs gets SIGTERM, whatever came here: Ray's workers do not hear Ctrl-C."""
        self._stops += 1
        for task in self._tasks:
            self._ray.cancel(task, force=self._stops > 1)

    def end(self, job: Job) -> None:
        """See Runner."""
        for task in [task for task, other in self._tasks.items() if other is job]:
            self._ray.cancel(task)

    def _probe(self, folder: Path, cpus: int, gpus: float) -> None:
        """Raises what `RayRunner` raises of nodes: each that can take a job looks for a file that is written here."""
        nodes = dict[str, str]()
        self.room = 0
        for node in self._ray.nodes():
            has = [(node["Resources"].get(name, 0), need) for name, need in (("CPU", cpus), ("GPU", gpus)) if need]
            if node["Alive"] and (jobs := min(int(there / need) for there, need in has)):
                nodes[node["NodeID"]] = node["NodeManagerHostname"]
                self.room += jobs
        if not nodes:
            raise ConfigError(f"no node of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs for a run")
        at = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f".probe-{secrets.token_hex(8)}"
        try:
            file.touch()
            look = self._ray.remote(num_cpus=0)(os.path.exists)
            seen = {node: look.options(scheduling_strategy=at(node, soft=False)).remote(str(file)) for node in nodes}
            answered, _ = self._ray.wait(list(seen.values()), num_returns=len(seen), timeout=PROBE_S)
            for node, sight in seen.items():
                if sight not in answered or not self._ray.get(sight):
                    raise OutputError(
                        f"node {nodes[node]} does not see {folder}; runs need a folder that all nodes share"
                    )
        finally:
            file.unlink(missing_ok=True)


def _work(job: Job, passed_on: dict[str, str], threads: dict[str, str]) -> Iterator[str | int]:
    """Runs a job in a worker of Ray: yields the node's name once it runs, at last its exit code."""
    for name, value in passed_on.items():
        os.environ.setdefault(name, value)
    stops = list[int]()
    # `ray.cancel` raises KeyboardInterrupt in the task, or calls this. Ray's workers, and what they start, block the
    # true SIGINT.
    signal.signal(signal.SIGINT, lambda number, frame: stops.append(number))
    process = start(job, threads)
    try:
        yield platform.node()
        while process.poll() is None:
            if stops:
                stops.clear()
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
        yield process.returncode
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
