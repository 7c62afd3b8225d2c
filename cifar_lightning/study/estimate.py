"""How long a plan will take, from runs that have finished: their seconds per operation, as far as they are alike."""

from collections.abc import Sequence
from statistics import median

from cifar_lightning.study.found import FoundRun
from cifar_lightning.study.plan import Task


def estimate_s(tasks: Sequence[Task], finished: Sequence[tuple[Task, FoundRun]]) -> float | None:
    """Seconds of what is due, one run after the other; None where nothing has finished to judge by.

    A system's own runs are taken where there are any; else all, by their operations. Side by side on a CPU the runs
    share its cores, and the sum stays about the same.

    Args:
        tasks: the plan.
        finished: finished runs with the tasks whose systems they are.
    """
    total = 0.0
    for task in tasks:
        if task.is_due:
            own = [run for other, run in finished if other.system == task.system]
            if own:
                per_epoch_s = median(_seconds(run) / max(run.epochs, 1) for run in own)
            elif finished:
                per_flop_s = median(_seconds(run) / _operations(other, run) for other, run in finished)
                images = int(median(run.record["data"]["train"] for _, run in finished))
                operations = task.resolved.train_flop_per_image * task.resolved.images_per_epoch(images)
                per_epoch_s = per_flop_s * operations
            else:
                return None
            total += per_epoch_s * task.epochs_left
    return total


def duration(seconds: float) -> str:
    """`2 h 05 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _seconds(run: FoundRun) -> float:
    timings = run.record["timings"]
    return float(timings["train_s"] + timings["val_s"])


def _operations(task: Task, run: FoundRun) -> float:
    images = task.resolved.images_per_epoch(int(run.record["data"]["train"]))
    return task.resolved.train_flop_per_image * images * max(run.epochs, 1)
