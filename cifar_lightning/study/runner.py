"""Trains the due runs of a study, says how each has ended, and stops them cleanly."""

import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cifar_lightning.errors import UserError
from cifar_lightning.runner.job import POLL_S, Job, Runner, is_free, signals_noted
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.plan import DONE, Task, duration
from cifar_lightning.study.store import find_runs

EPOCH_LINE = re.compile(r"^epoch +(\d+)", re.MULTILINE)
MAX_RETRIES = 3  # of a run whose worker is lost


@dataclass(frozen=True)
class Attempt:
    """A task whose job has been submitted; `first_byte` is where its log went on, `retries` those before it."""

    task: Task
    job: Job
    first_byte: int
    retries: int

    def epoch(self) -> int:
        """The last epoch that it has reported, counted from 1; before the first report, those of its checkpoint."""
        reported = EPOCH_LINE.findall(self._output())
        return int(reported[-1]) if reported else self.task.run.epochs if self.task.run else 0

    def progress(self) -> str:
        """The run and its epoch, in words."""
        return f"{self.task.system.name} s{self.task.seed} epoch {self.epoch()}/{self.task.resolved.max_epochs}"

    def error_line(self) -> str:
        """The error line of a run that failed, or the last line of its output."""
        return error_line(self._output())

    def _output(self) -> str:
        written = self.job.log.read_bytes() if self.job.log.is_file() else b""  # a lost worker may have left none
        return written[self.first_byte :].decode("utf-8", errors="replace")


def error_line(output: str) -> str:
    """The last line of a run's output that tells an error, or else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["no output"])[-1]


def job_of(task: Task, logs: Path) -> Job:
    """What a task runs, and where it says how it goes."""
    return Job(command(task, logs), logs / task.system.name / f"s{task.seed}.log")


def command(task: Task, logs: Path) -> list[str]:
    """The `fit` command of a task: from the beginning, or from its run's last checkpoint."""
    fit = [sys.executable, "-m", "cifar_lightning", "fit"]
    if task.run is not None and task.run.checkpoint is not None:
        return [*fit, "--ckpt", str(task.run.checkpoint)]
    folder = f"--trainer.default_root_dir={logs / task.system.name}"
    # A study never falls back on the sample.
    source = "sample" if task.resolved.config["data"]["source"] == "sample" else "official"
    return [*fit, *task.system.flags(), f"--data.source={source}", f"--seed_everything={task.seed}", folder]


def execute(
    tasks: Sequence[Task],
    runner: Runner,
    logs: Path,
    plan: Callable[[], Sequence[Task]],
    again: str,
) -> int:
    """Runs every task that is due, and prints a line for each run that ends. On a terminal a line says what is running.

    A run whose worker is lost goes on from its last checkpoint, at most `MAX_RETRIES` times: as soon as its process,
    which may be alive where nobody can reach it, has let go of its lock, `plan` says what is left of it.

    Args:
        tasks: as they are now.
        runner: has room for some of them at a time.
        logs: the study's folder.
        plan: the tasks as they are when it is called.
        again: the command that resumes the study.

    Returns how many of the runs failed.

    Raises UserError: Ctrl-C or SIGTERM; the runs have saved where they were.
    """
    due = [task for task in tasks if task.is_due]
    width = max((len(task.system.name) for task in due), default=0)
    attempts, lost = dict[Job, Attempt](), list[Attempt]()
    passed_on = failures = 0  # signals that have reached the runs
    shown_at = 0.0
    console = Console(highlight=False, markup=False, soft_wrap=True)

    def submit(task: Task, retries: int = 0) -> None:
        job = job_of(task, logs)
        attempts[job] = Attempt(task, job, job.log.stat().st_size if job.log.is_file() else 0, retries)
        runner.submit(job)

    def show(attempt: Attempt, node: str, outcome: str) -> None:
        where = f"  ({node})" if node else ""
        console.print(f"{attempt.task.system.name:<{width}}  seed {attempt.task.seed}  {outcome}{where}")
        console.file.flush()

    with signals_noted() as received, console.status("", refresh_per_second=1) as status:
        # The longest first, so that nodes are not empty at the end: `python -m benchmarks many_nodes` finds 14% in it.
        for task in sorted(due, key=lambda task: -task.epochs_left * task.resolved.train_flop_per_image):
            submit(task)
        while attempts or (lost and not received):
            for job, exit_code in runner.ended(POLL_S):
                attempt, node = attempts.pop(job), runner.running.pop(job, "")
                if exit_code is None and received:  # it has not started, or goes on next time
                    continue
                if exit_code is None and attempt.retries < MAX_RETRIES:
                    show(attempt, node, f"lost its worker in epoch {attempt.epoch() + 1}, goes on elsewhere")
                    lost.append(attempt)
                    continue
                show(attempt, node, _outcome(attempt, exit_code, logs))
                failures += exit_code != 0 and not received
            for attempt in [attempt for attempt in lost if is_free(attempt.job.lock)]:
                lost.remove(attempt)
                now = next(
                    task for task in plan() if (task.system, task.seed) == (attempt.task.system, attempt.task.seed)
                )
                if now.is_due:
                    submit(now, attempt.retries + 1)
                else:  # its process has come to its end after all
                    show(attempt, "", _outcome(attempt, 0, logs))
                    failures += now.action != DONE
            for number in received[passed_on:]:
                name = signal.Signals(number).name
                console.print(f"{name}: {len(runner.running)} run(s) save and stop (once more: at once)")
                runner.stop(number)
                passed_on += 1
            if console.is_terminal and time.monotonic() > shown_at + 1:
                shown_at = time.monotonic()
                done = len(due) - len(attempts) - len(lost)
                running = [
                    attempts[job].progress() + (f" ({node})" if node else "")
                    for job, node in list(runner.running.items())
                    if job in attempts
                ]
                status.update(f"{done} of {len(due)} runs  {', '.join(running)}")
    if received:
        stopped = UserError(f"stopped; go on with: {again}")
        stopped.exit_code = 128 + received[0]
        raise stopped
    return failures


def _outcome(attempt: Attempt, exit_code: int | None, logs: Path) -> str:
    """How a run has ended, as its line says it."""
    task = attempt.task
    found = find_runs(logs, None, task.system.name, task.seed)
    if exit_code == 0 and found:
        run = found[-1]
        accuracy, loss = (METRICS[key].show(METRICS[key].read(run.content)) for key in ("test_accuracy", "test_loss"))
        took = duration(run.record.timings["train_s"])
        return f"test accuracy {accuracy}  loss {loss}  {run.epochs} epochs in {took}"
    if exit_code in (130, 143, -signal.SIGTERM):  # the last one before it could save anything
        return f"stopped in epoch {attempt.epoch() + 1}, goes on next time"
    how = f"exit code {exit_code}"
    if exit_code is None:
        how = f"its workers were lost {attempt.retries + 1} times"
    elif exit_code < 0:
        how = f"was ended by signal {-exit_code}"
    return f"FAILED ({how}): {attempt.error_line()}; see {attempt.job.log}"
