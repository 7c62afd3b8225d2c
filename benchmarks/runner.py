"""What running through a Runner costs: runs per minute of tasks that only sleep, against the ideal.

    python -m benchmarks runner

runs them in processes of this machine and on one and two nodes of a Ray cluster that is simulated here, into
`results/runner.json`. The ideal is that of runs which follow each other without a gap.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import conditions
from cifar_lightning.runner.job import POLL_S, Job, Runner
from cifar_lightning.runner.local import LocalRunner
from cifar_lightning.runner.on_ray import RayRunner
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.record import RESULTS


def main(argv: list[str]) -> int:
    """Measures every runner and writes the JSON. Needs the extra [ray]."""
    parser = argparse.ArgumentParser("python -m benchmarks runner", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of a run")
    parser.add_argument("--rounds", type=int, default=5, help="runs that follow each other in each slot")
    parser.add_argument("--slots", type=int, default=2, help="runs side by side on a node")
    parser.add_argument("--output", type=Path, default=RESULTS / "runner.json", metavar="FILE", help="the JSON")
    arguments = parser.parse_args(argv)
    # By default Ray's workers give way to everything else on the machine.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    results = {}
    for nodes in (1, 2):
        slots = nodes * arguments.slots
        for kind, make in (("local", _local), ("ray", _on_ray)):
            with TemporaryDirectory() as folder, make(Path(folder), nodes, arguments.slots) as runner:
                found = measure(runner, Path(folder), slots, arguments.seconds, arguments.rounds)
            results[f"{kind}_{nodes}"] = found
            print(
                f"{kind:<5} {nodes} x {arguments.slots} runs of {arguments.seconds:g} s: "
                f"{found['runs_per_minute']:.2f} a minute, ideally {found['ideal_runs_per_minute']:.2f}; "
                f"{found['overhead']:.1%} more for a run",
                flush=True,
            )
    settings = {name: getattr(arguments, name) for name in ("seconds", "rounds", "slots")}
    write_json(arguments.output, conditions("cpu") | settings | {"runners": results})
    print(f"written  {arguments.output}")
    return 0


def measure(runner: Runner, folder: Path, slots: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Runs `rounds` sleeps of `seconds` in each of `slots`, after one short one in each that starts the workers."""

    def wall_s(count: int, length: float) -> float:
        began = time.perf_counter()
        for number in range(count):
            runner.submit(Job(["sleep", str(length)], Path(f"{number}.log"), folder=folder))
        left = count
        while left:
            ended = runner.ended(POLL_S)
            assert all(exit_code == 0 for _, exit_code in ended)
            left -= len(ended)
        return time.perf_counter() - began

    first_s = wall_s(slots, 0.5) - 0.5
    taken_s = wall_s(slots * rounds, seconds)
    ideal_s = rounds * seconds
    return {
        "first_s": first_s,
        "wall_s": taken_s,
        "runs_per_minute": 60 * slots * rounds / taken_s,
        "ideal_runs_per_minute": 60 * slots / seconds,
        "overhead": taken_s / ideal_s - 1,
    }


@contextlib.contextmanager
def _local(folder: Path, nodes: int, slots: int) -> Iterator[Runner]:
    yield LocalRunner([{}] * (nodes * slots))


@contextlib.contextmanager
def _on_ray(folder: Path, nodes: int, slots: int) -> Iterator[Runner]:
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, include_dashboard=False)
        for _ in range(nodes):
            cluster.add_node(num_cpus=slots)
        with RayRunner(cluster.address, 1, 0, 1, folder) as runner:
            yield runner
    finally:
        cluster.shutdown()
