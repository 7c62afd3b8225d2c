"""What has run, what is to run and why; nothing is started here.

A run counts for a system and a seed where its resolved settings are the same and where the package's source that it ran
(`environment.package_digest`) is the one that is here now, or one of `ACCEPTED_DIGESTS`. Any other edit of the package
makes new work, and the plan says so; `--accept-source` counts such runs none the less. Published runs count whatever
source they ran: they were published as results, with their commit, and a page must be renewable after the code has
moved on. The page's table of runs names the source of every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError, UserError
from cifar_lightning.nets.summary import LayerTable, layer_table
from cifar_lightning.runs.settings import settings_of
from cifar_lightning.study.flops import count
from cifar_lightning.study.spec import Study, System
from cifar_lightning.study.store import StoredRun, why_not

# Sources of before that train the same: by `environment.package_digest`, with the reason. To be emptied when the
# numbers of a run change.
ACCEPTED_DIGESTS = {"04830c8961ab": "c0ab886, before the package was rearranged; the same metrics.csv byte for byte"}


@dataclass(frozen=True)
class Resolved:
    """What a system is on this machine."""

    settings: dict[str, Any]  # flat, without seed and places, and without what the machine chose
    config: dict[str, Any]  # as run.json holds it
    layers: LayerTable
    train_flop_per_image: float  # forward, backward and update, at the system's batch size; the mean of all epochs
    evaluation_flop_per_image: float
    devices: int

    @property
    def max_epochs(self) -> int:
        """Epochs of a whole run."""
        return int(self.config["trainer"]["max_epochs"])

    def epoch_flop(self, training_images: int) -> float:
        """Operations of an epoch, which shows all images unless `trainer.limit_train_batches` ends it before."""
        batch_size, limit = int(self.config["data"]["batch_size"]), self.config["trainer"]["limit_train_batches"]
        batches = -(-training_images // batch_size)
        if isinstance(limit, float):
            batches = int(batches * limit)
        elif limit is not None:
            batches = min(batches, limit)
        return self.train_flop_per_image * min(training_images, batches * batch_size)


def resolve(system: System) -> Resolved:
    """Builds the system's net once. The precision is no part of a run's identity where the machine chooses it.

    Raises ConfigError: `fit` would refuse the settings; the message names the system.
    """
    try:
        experiment = Experiment("fit", system.flags())
    except UserError as error:
        raise ConfigError(f"system {system.name}: {error}") from error
    config = experiment.resolved()
    max_epochs = config["trainer"]["max_epochs"]
    if max_epochs is None or max_epochs < 1:
        raise ConfigError(f"system {system.name}: trainer.max_epochs must be at least 1 in a study, got {max_epochs}")
    for name, off in (("max_steps", -1), ("max_time", None), ("fast_dev_run", False)):
        if config["trainer"][name] != off:
            raise ConfigError(
                f"system {system.name}: trainer.{name} cannot be set in a study, whose runs are whole; use "
                "trainer.max_epochs and trainer.limit_train_batches"
            )
    if config["trainer"]["limit_train_batches"] == 0:
        raise ConfigError(f"system {system.name}: trainer.limit_train_batches 0 leaves nothing to train")
    if not config["final_test"]:
        raise ConfigError(f"system {system.name}: final_test must be true in a study, which compares final scores")
    settings = settings_of(config)
    if not experiment.has_precision:
        del settings["trainer.precision"]
    devices = config["trainer"]["devices"]
    devices = len(devices) if isinstance(devices, list) else int(devices)
    layers = layer_table(experiment.model.net)
    data = experiment.datamodule
    counted = {32: count(experiment.model, data.batch_size)}
    sides = [data.augment.size_in(epoch) for epoch in range(max_epochs)]
    for side in set(sides) - {32}:
        counted[side] = count(experiment.model, data.batch_size, side)
    flop_per_image = mean(counted[side]["step"] for side in sides) / data.batch_size
    return Resolved(settings, config, layers, flop_per_image, counted[32]["evaluation_per_image"], devices)


DONE, FAILED, RESUME, NEW = "done", "failed", "go on", "run"


@dataclass(frozen=True)
class Task:
    """One system with one seed: what is there and what there is to do."""

    system: System
    resolved: Resolved
    seed: int
    action: str  # DONE, FAILED, RESUME or NEW
    reason: str
    run: StoredRun | None = None  # the one that is done, has failed or goes on

    @property
    def is_due(self) -> bool:
        """Whether something is to be run."""
        return self.action in (RESUME, NEW)

    @property
    def epochs_left(self) -> int:
        """Of a whole run's epochs, those that are not in the run's curve yet."""
        return self.resolved.max_epochs - (self.run.epochs if self.run else 0)


def make_plan(
    study: Study,
    resolved: dict[str, Resolved],
    found: dict[str, list[StoredRun]],
    digest: str,
    accept_source: bool = False,
    retry_failed: bool = False,
) -> list[Task]:
    """A task per system and seed, in the study's order.

    Args:
        study: what is planned.
        resolved: by system.
        found: by system, from `find_runs`.
        digest: of the package's source now.
        accept_source: count runs of another source.
        retry_failed: failed runs are to run once more; by default a failure is a result, which stays visible.
    """
    tasks = []
    for system in study.systems:
        for seed in system.seeds:
            counting, rejected = [], []
            for run in (run for run in found[system.name] if run.seed == seed):
                reason = why_not(run, resolved[system.name].settings)
                known_sources = {digest, *ACCEPTED_DIGESTS}
                if not (reason or accept_source or run.is_published or known_sources.issuperset(run.record.digests)):
                    sources = ", then ".join(run.record.digests)
                    reason = f"the package's source was {sources} and is {digest} (--accept-source)"
                if reason:
                    rejected.append(f"{run.name}: {reason}")
                else:
                    counting.append(run)
            tasks.append(_task(system, resolved[system.name], seed, counting, rejected, retry_failed))
    return tasks


def _task(
    system: System, resolved: Resolved, seed: int, counting: list[StoredRun], rejected: list[str], retry_failed: bool
) -> Task:
    def newest(*statuses: str) -> StoredRun | None:
        return next((run for run in reversed(counting) if run.record.status in statuses), None)

    if (done := newest("finished")) is not None:
        return Task(system, resolved, seed, DONE, f"{done.name}{', published' if done.is_published else ''}", done)
    if (last := newest("failed", "interrupted", "running")) is None:
        reason = f"not counted: {rejected[-1]}" if rejected else "no run yet"
        return Task(system, resolved, seed, NEW, reason)
    if last.record.status == "failed" and not retry_failed:
        return Task(system, resolved, seed, FAILED, f"{last.record.error or '?'} (--retry-failed)", last)
    if last.checkpoint:
        return Task(system, resolved, seed, RESUME, f"{last.name} after epoch {last.epochs}", last)
    return Task(system, resolved, seed, NEW, f"{last.name} left no checkpoint here")


def estimate_s(tasks: Sequence[Task]) -> float | None:
    """Seconds that the due runs take one after the other; None where no run has finished.

    A system's pace is that of its own runs, or else of all runs by their FLOPs. Runs side by side on a CPU share its
    cores, so the sum stays about the same.
    """
    finished = []  # (task, its seconds per epoch, training images)
    for task in tasks:
        if task.action == DONE and task.run:
            timings = task.run.record.timings
            epoch_s = (timings["train_s"] + timings["val_s"]) / task.run.epochs
            finished.append((task, epoch_s, task.run.record.data["train"]))
    if not finished:
        return None
    s_per_flop = median(epoch_s / task.resolved.epoch_flop(images) for task, epoch_s, images in finished)
    images = int(median(images for *_, images in finished))
    total = 0.0
    for task in (task for task in tasks if task.is_due):
        own = [epoch_s for other, epoch_s, _ in finished if other.system == task.system]
        total += task.epochs_left * (median(own) if own else s_per_flop * task.resolved.epoch_flop(images))
    return total


def duration(seconds: float) -> str:
    """`2 h 05 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
