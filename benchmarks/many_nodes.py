"""Simulates a large study: runs of the recorded durations on many nodes, of which some are lost.

    python -m benchmarks many_nodes

prints the lines of docs/scaling.md and writes them to `results/many_nodes.json`. It measures nothing: each run takes
the seconds of a recorded one, drawn with a seed, a free node takes the next run of the plan, and nodes are lost at
random. What a lost node ran goes on, on the next free one, from its last checkpoint: that of the epoch before, or of
the last five minutes.
"""

import argparse
import heapq
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import conditions
from cifar_lightning.errors import UserError
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.record import RESULTS, RUNS, read_run

CHECKPOINT_S = 300.0


@dataclass(frozen=True)
class Outcome:
    """How a simulated study went; `idle` is the share of the nodes' time, `lost` that of the work."""

    makespan_s: float
    idle: float
    losses: int
    redone: float


def main(argv: list[str]) -> int:
    """Prints a line for each case. Raises UserError where no run is recorded."""
    parser = argparse.ArgumentParser("python -m benchmarks many_nodes", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the recorded runs are")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--start-s", type=float, default=10.0, help="until a run trains: process, imports, data")
    parser.add_argument("--away-s", type=float, default=600.0, help="until a lost node is back")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "many_nodes.json")
    arguments = parser.parse_args(argv)
    recorded = durations(arguments.results)
    if not recorded:
        raise UserError(f"no finished run is recorded in {arguments.results / RUNS}")
    drawn = random.Random(arguments.seed).choices(recorded, k=arguments.runs)
    ideal_h = sum(seconds for seconds, _ in drawn) / arguments.nodes / 3600
    print(f"{arguments.runs} runs, drawn from {len(recorded)} recorded ones, on {arguments.nodes} nodes")
    print(f"no start, no loss, no idle node: {ideal_h:.1f} h")
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    result = {
        **conditions("cpu"),
        "settings": settings,
        "recorded_runs": len(recorded),
        "ideal_h": ideal_h,
        "cases": [],
    }
    orders = {"in the order of the plan": drawn, "longest first": sorted(drawn, reverse=True)}
    for order, runs in orders.items():
        for mean_life_h in (None, 24.0, 4.0):
            life_s = mean_life_h * 3600 if mean_life_h else None
            found = simulate(runs, arguments.nodes, arguments.start_s, life_s, arguments.away_s, arguments.seed)
            case = {"order": order, "mean_life_h": mean_life_h, **asdict(found)}
            result["cases"].append(case)
            life = f"each lost every {mean_life_h:g} h" if mean_life_h else "no node is lost"
            print(
                f"{order:<25} {life:<27} {found.makespan_s / 3600:5.1f} h  idle {found.idle:5.1%}  "
                f"{found.losses:3} runs lost their node  {found.redone:.2%} of the work done twice"
            )
    write_json(arguments.output, result)
    return 0


def durations(results: Path) -> list[tuple[float, float]]:
    """(seconds, those of an epoch) of every finished run of the archive."""
    runs = [read_run(path).run for path in sorted(results.glob(f"{RUNS}/*/*.json"))]
    finished = [run for run in runs if run.status == "finished"]
    taken = [(run.timings["train_s"] + run.timings["val_s"], run.metrics["epochs"]) for run in finished]
    return [(seconds, seconds / epochs) for seconds, epochs in taken]


def simulate(
    runs: Sequence[tuple[float, float]], nodes: int, start_s: float, mean_life_s: float | None, away_s: float, seed: int
) -> Outcome:
    """Gives the runs to the nodes, each to the one that is free first.

    Args:
        runs: (seconds, those of an epoch), in the order in which they are given.
        nodes: each trains one run at a time.
        start_s: before a run trains, also where it goes on.
        mean_life_s: of a node from start or return to loss, exponentially distributed; None: none is lost.
        away_s: from the loss of a node to its return.
        seed: of the losses.
    """
    chance = random.Random(seed)

    def life() -> float:
        return chance.expovariate(1 / mean_life_s) if mean_life_s else float("inf")

    waiting = list(reversed(runs))
    # (when, node, None): it is free; (when, -1, run): what is left of a run whose node is lost.
    events: list[tuple[float, int, tuple[float, float] | None]] = [(0.0, node, None) for node in range(nodes)]
    lost_at = [life() for _ in range(nodes)]
    idle: list[int] = []
    busy_s = redone_s = makespan_s = 0.0
    losses = 0
    while events:
        now, node, left = heapq.heappop(events)
        if left:
            waiting.append(left)
        else:
            idle.append(node)
        while idle and waiting:
            node = idle.pop()
            if (back := lost_at[node] + away_s) <= now + away_s:  # it was lost while it had nothing to do
                lost_at[node] = max(back, now) + life()
                heapq.heappush(events, (max(back, now), node, None))
                continue
            seconds, epoch_s = waiting.pop()
            end = now + start_s + seconds
            free_at = end
            if end > lost_at[node]:
                end, free_at = lost_at[node], back
                trained = max(0.0, end - now - start_s)
                again = trained % min(epoch_s, CHECKPOINT_S)
                losses += 1
                redone_s += again
                lost_at[node] = back + life()
                heapq.heappush(events, (end, -1, (seconds - trained + again, epoch_s)))
            heapq.heappush(events, (free_at, node, None))
            busy_s += end - now
            makespan_s = max(makespan_s, end)
    idle_share = 1 - busy_s / (nodes * makespan_s)
    return Outcome(makespan_s, idle_share, losses, redone_s / sum(seconds for seconds, _ in runs))
