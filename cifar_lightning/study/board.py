"""Board: the console of a study, a bar over all of its runs and one line per run that has ended."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cifar_lightning.study.child import Child
from cifar_lightning.study.estimate import duration
from cifar_lightning.study.found import FoundRun, find_runs
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.plan import Task


class Board:
    """Prints a line for each run that ends; on a terminal a bar below them shows the work that is done.

    The work is counted in operations, so that a run of 100 epochs or of a wider net takes its due part of the bar.

    Args:
        tasks: the plan.
        logs: the study's folder.
    """

    def __init__(self, tasks: Sequence[Task], logs: Path) -> None:
        self.logs = logs
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self._due = [task for task in tasks if task.is_due]
        self._ended = 0
        self._work_done = 0.0
        self._work = sum(_work(task, task.epochs_left) for task in self._due)
        self._began_at = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[left]}", markup=False),
            console=self.console,
            auto_refresh=False,  # drawn when the runs are looked at: a thread would take its share of the machine
            transient=True,
            expand=True,
            disable=not self.console.is_terminal,
        )
        self._bar_task = self._bar.add_task("", total=max(self._work, 1), left="")

    def __enter__(self) -> "Board":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self.console.print(text)
        self.console.file.flush()

    def show(self, running: Sequence[Child]) -> None:
        """Draws the bar anew."""
        if not self.console.is_terminal:
            return
        done = self._work_done + sum(
            _work(child.task, child.epoch() - (child.task.resolved.max_epochs - child.task.epochs_left))
            for child in running
        )
        elapsed_s = time.monotonic() - self._began_at
        left = f"{duration(elapsed_s * (self._work - done) / done)} left" if done > 0 else ""
        now = ", ".join(
            f"{child.task.system.name} s{child.task.seed} epoch {child.epoch()}/{child.task.resolved.max_epochs}"
            for child in running
        )
        text = f"{self._ended} of {len(self._due)} runs  {now}"
        self._bar.update(self._bar_task, description=text, completed=done, left=left)
        self._bar.refresh()

    def ended(self, child: Child) -> bool:
        """Prints the run's line. Returns whether it finished."""
        self._ended += 1
        self._work_done += _work(child.task, child.task.epochs_left)
        task, exit_code = child.task, child.exit_code()
        name = f"{task.system.name:<{max(len(other.system.name) for other in self._due)}}  seed {task.seed}"
        found = [run for run in find_runs(self.logs, None, task.system.name) if run.seed == task.seed]
        if exit_code == 0 and found:
            self.say(f"{name}  {_line(found[-1])}")
        elif exit_code in (130, 143):
            self.say(f"{name}  stopped in epoch {child.epoch() + 1}, goes on next time")
        else:
            how = f"was ended by signal {-exit_code}" if exit_code and exit_code < 0 else f"exit code {exit_code}"
            self.say(f"{name}  FAILED ({how}): {child.last_words()}; see {child.log}")
        return exit_code == 0


def _line(run: FoundRun) -> str:
    accuracy, loss = (METRICS[name] for name in ("test_accuracy", "test_loss"))
    took = duration(run.record["timings"]["train_s"])
    return (
        f"test accuracy {accuracy.show(accuracy.read(run.content))}  loss {loss.show(loss.read(run.content))}  "
        f"{run.epochs} epochs in {took}"
    )


def _work(task: Task, epochs: int) -> float:
    return task.resolved.train_flop_per_image * max(epochs, 0)
