"""Runs the trials of a search: starts them, reads their epochs, prunes them, says how each has ended, and stops."""

import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from cifar_lightning.errors import DataError, OutputError, UserError
from cifar_lightning.runner.job import POLL_S, Job, Runner, signals_noted
from cifar_lightning.search.journal import Journal
from cifar_lightning.search.spec import Params, Search, text_of
from cifar_lightning.study.metrics import METRICS
from cifar_lightning.study.runner import MAX_RETRIES, error_line
from cifar_lightning.study.store import StoredRun, find_runs

CLAIM_EVERY_S = 1.0  # while there was nothing to claim: another process may leave a trial behind
MACHINE_FAULTS = (DataError.exit_code, OutputError.exit_code)  # which every trial would meet


@dataclass(eq=False)
class Attempt:
    """A trial that has been submitted; its log went on at `first_byte`."""

    trial: FrozenTrial
    job: Job
    folder: Path
    first_byte: int
    rows: list[dict[str, float]] = field(default_factory=list)  # its epochs that have been reported
    pruned_at: int = 0

    @property
    def number(self) -> int:
        """Of the trial."""
        return self.trial.number

    def run(self) -> StoredRun | None:
        """What it has left on disk."""
        found = find_runs(self.folder.parent, None, self.folder.name)
        return found[-1] if found else None

    def error(self) -> str:
        """The error line of its output."""
        return error_line(self.job.log.read_bytes()[self.first_byte :].decode("utf-8", errors="replace"))


def command(search: Search, params: Params, folder: Path, source: str, run: StoredRun | None) -> list[str]:
    """The `fit` command of a trial, from the beginning or from its run's last checkpoint; it never scores the test set.

    Args:
        search: what is looked for.
        params: of the trial.
        folder: the trial's.
        source: of the images: 'official' or 'sample'.
        run: what the trial has left before.
    """
    fit = [sys.executable, "-m", "cifar_lightning", "fit"]
    if run is not None and run.checkpoint is not None:
        return [*fit, "--ckpt", str(run.checkpoint), "--final_test=false"]
    own = {"data.source": source, "seed_everything": search.seed, "trainer.default_root_dir": folder}
    flags = [f"--{name}={value}" for name, value in own.items()]
    return [*fit, *search.trial(folder.name, params).flags(), *flags, "--final_test=false"]


def run_trials(
    search: Search,
    runner: Runner,
    journal: Journal,
    folder: Path,
    source: str = "official",
    again: str = "the same command",
) -> None:
    """Runs trials until there are enough, or the time is over; prints a line for each that ends.

    Args:
        search: what is looked for.
        runner: has room for some trials at a time.
        journal: of the search.
        folder: the search's.
        source: of the images: 'official' or 'sample'.
        again: the command that goes on.

    Raises UserError: Ctrl-C or SIGTERM; or a trial has met what every other would, such as a missing data set.
    """
    running = dict[Job, Attempt]()
    ends = Counter[int]()  # of trials that go on, by their numbers
    claim_at, passed_on = 0.0, 0

    def submit(trial: FrozenTrial) -> None:
        place = folder / trial.user_attrs["folder"]
        log = place.with_suffix(".log")
        attempt = Attempt(trial, Job([], log), place, log.stat().st_size if log.is_file() else 0)
        argv = command(search, trial.params, place, source, attempt.run())
        attempt.job = Job(argv, log)
        running[attempt.job] = attempt
        runner.submit(attempt.job)

    def follow(attempt: Attempt) -> None:
        """Reports the epochs that have come; prunes."""
        if (run := attempt.run()) is None:
            return
        for row in run.content.epochs[len(attempt.rows) :]:
            attempt.rows.append(row)
            if search.objective in row and not attempt.pruned_at:
                is_poor = journal.report(attempt.number, int(row["epoch"]), row[search.objective])
                if is_poor and row["epoch"] < run.record.config["trainer"]["max_epochs"]:
                    attempt.pruned_at = int(row["epoch"])
                    runner.end(attempt.job)

    def end(attempt: Attempt, exit_code: int | None, node: str) -> None:
        follow(attempt)
        number, show = attempt.number, METRICS[search.objective].show
        value = attempt.rows[-1].get(search.objective) if attempt.rows else None
        figure = f"{METRICS[search.objective].title} {show(value)}"
        if exit_code == 0 and value is not None:
            journal.tell(number, "", TrialState.COMPLETE, value)
            outcome = f"{figure}  {len(attempt.rows)} epochs"
        elif attempt.pruned_at:
            reason = f"{search.pruner} after epoch {attempt.pruned_at}"
            journal.tell(number, reason, TrialState.PRUNED)
            outcome = f"{figure}  pruned: {reason}"
        elif exit_code in (None, 130, 143) and (is_ending or ends[number] < MAX_RETRIES):
            ends[number] += 1
            outcome = f"stopped in epoch {len(attempt.rows) + 1}, goes on {'next time' if is_ending else 'now'}"
        elif exit_code is not None and exit_code in MACHINE_FAULTS:
            runner.stop(signal.SIGTERM)  # the others
            raise _stop(f"trial {number}: {attempt.error().removeprefix('error: ')}; go on with: {again}", exit_code)
        else:
            how = f"exit code {exit_code}" if (exit_code or 0) >= 0 else f"was ended by signal {-(exit_code or 0)}"
            reason = f"{how}: {attempt.error()}"
            journal.tell(number, reason)
            outcome = f"FAILED ({reason}); see {attempt.job.log}"
        print(
            f"trial {number:<4} {outcome}  {text_of(attempt.trial.params)}{f'  ({node})' if node else ''}", flush=True
        )

    with journal.owned(), signals_noted() as received:
        while True:
            spent_s = journal.tick()
            is_late = search.hours is not None and spent_s >= 3600 * search.hours
            is_ending = is_late or bool(received)
            while not is_ending and len(running) < runner.room and time.monotonic() >= claim_at:
                trial = journal.claim({attempt.number for attempt in running.values()})
                if trial is None:
                    claim_at = time.monotonic() + CLAIM_EVERY_S
                else:
                    submit(trial)
            if not running:
                if is_ending or not journal.is_waiting():
                    break
                time.sleep(POLL_S)
                continue
            for number in [*received, *([signal.SIGTERM] if is_late else [])][passed_on:]:
                why = "the time is up" if is_late else signal.Signals(number).name
                print(f"{why}: {len(running)} trial(s) save and stop", flush=True)
                runner.stop(number)
                passed_on += 1
            for job, exit_code in runner.ended(POLL_S):
                attempt = running.pop(job)
                end(attempt, exit_code, runner.running.pop(job, ""))
                claim_at = 0.0
            for attempt in running.values():
                follow(attempt)
    if received:
        raise _stop(f"stopped; go on with: {again}", 128 + received[0])


def _stop(message: str, exit_code: int) -> UserError:
    error = UserError(message)
    error.exit_code = exit_code
    return error
