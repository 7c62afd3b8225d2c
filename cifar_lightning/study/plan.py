"""What has run, what is to run and why; nothing is started here.

A run counts for a system and a seed where its resolved settings are the same and where the package's source that it ran
(`environment.package_digest`) is the one that is here now. An edit of the package thus makes new work, and the plan
says so; `--accept-source` counts such runs none the less. Published runs count whatever source they ran: they were
published as results, with their commit, and a page must be renewable after the code has moved on. The page's table of
runs names the source of every run.
"""

from dataclasses import dataclass

from cifar_lightning.study.definition import Study, System
from cifar_lightning.study.found import FoundRun, why_not
from cifar_lightning.study.resolve import Resolved

DONE, FAILED, RESUME, NEW = "done", "failed", "go on", "run"


@dataclass(frozen=True)
class Task:
    """One system with one seed: what is there and what there is to do."""

    system: System
    resolved: Resolved
    seed: int
    action: str  # DONE, FAILED, RESUME or NEW
    reason: str
    run: FoundRun | None = None  # the one that is done, has failed or goes on

    @property
    def is_due(self) -> bool:
        """Whether something is to be run."""
        return self.action in (RESUME, NEW)

    @property
    def epochs_left(self) -> int:
        """Of a whole run's epochs, those that are not in the run's curve yet."""
        if not self.is_due:
            return 0
        return max(self.resolved.max_epochs - (self.run.epochs if self.run else 0), 0)


def make_plan(
    study: Study,
    resolved: dict[str, Resolved],
    found: dict[str, list[FoundRun]],
    digest: str,
    accept_source: bool = False,
    retry_failed: bool = False,
) -> list[Task]:
    """A task per system and seed, in the study's order.

    Args:
        study: the study.
        resolved: by system.
        found: by system, the runs that lie there, in the order of their starts.
        digest: of the package's source now.
        accept_source: count runs of another source.
        retry_failed: failed runs are to run once more; by default a failure is a result, which stays visible.
    """
    return [
        _task(system, resolved[system.name], seed, found[system.name], digest, accept_source, retry_failed)
        for system in study.systems
        for seed in system.seeds
    ]


def _task(
    system: System,
    resolved: Resolved,
    seed: int,
    found: list[FoundRun],
    digest: str,
    accept_source: bool,
    retry_failed: bool,
) -> Task:
    counting, rejected = [], []
    for run in (run for run in found if run.seed == seed):
        if reason := why_not(run, resolved.settings):
            rejected.append(f"{run.name}: {reason}")
        elif run.digests != [digest] and not run.is_published and not accept_source:
            source = ", then ".join(run.digests)
            rejected.append(f"{run.name}: the package's source was {source} and is {digest} (--accept-source)")
        else:
            counting.append(run)

    def newest(*statuses: str) -> FoundRun | None:
        return next((run for run in reversed(counting) if run.status in statuses), None)

    if (done := newest("finished")) is not None:
        return Task(system, resolved, seed, DONE, f"{done.name}{', published' if done.is_published else ''}", done)
    if (last := newest("failed", "interrupted", "running")) is None:
        reason = f"not counted: {rejected[-1]}" if rejected else "no run yet"
        return Task(system, resolved, seed, NEW, reason)
    if last.status == "failed" and not retry_failed:
        return Task(system, resolved, seed, FAILED, f"{last.record.get('error', '?')} (--retry-failed)", last)
    if last.checkpoint:
        return Task(system, resolved, seed, RESUME, f"{last.name} after epoch {last.epochs}", last)
    return Task(system, resolved, seed, NEW, f"{last.name} left no checkpoint here")
