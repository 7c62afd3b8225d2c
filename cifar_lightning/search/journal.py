"""The trials of a search in Optuna's journal: a file that grows by lines, and that several nodes may share."""

import contextlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import get_param_importances
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from cifar_lightning.errors import ConfigError, OutputError
from cifar_lightning.runner.job import is_free, locked
from cifar_lightning.runs.settings import differing
from cifar_lightning.search.spec import Search, base_params
from cifar_lightning.study.plan import Resolved

JOURNAL = "journal.log"
TICK_S = 30.0


class MendingLock:
    """The journal's lock; before a line is added, one that was cut short by a kill or a full disk is taken away.

    Optuna's own locks are files that outlive a killed process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = contextlib.ExitStack()

    def acquire(self) -> bool:
        """Waits for the lock. Raises OutputError."""
        self._held.enter_context(locked(self._path.with_suffix(".lock")))
        with self._path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) is not None and file.read() != b"\n":
                file.truncate(self._path.read_bytes().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Gives it back."""
        self._held.close()


class Journal:
    """A search's trials.

    A trial belongs to the process that has claimed it and holds its `token` locked. When that process is gone, and the
    trial's run as well, another process may claim the trial and go on with it.

    Args:
        search: what is looked for.
        folder: the search's.
        base: what a trial is without a change; where it lies in the space, it is the first trial.

    Raises:
        ConfigError: the folder holds another search's trials.
        OutputError: the journal cannot be read or written.
    """

    def __init__(self, search: Search, folder: Path, base: Resolved) -> None:
        self._search, self._folder = search, folder
        self._token = secrets.token_hex(4)
        self._started_at, self._ticked_at = time.time(), 0.0
        path = folder / JOURNAL
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._storage = JournalStorage(JournalFileBackend(str(path), MendingLock(path)))  # type: ignore[arg-type] # not public
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        except ValueError as error:  # a line in its middle is no JSON
            raise OutputError(f"{path} is damaged ({error}); remove its damaged lines, or the file") from error
        with locked(folder / ".lock"):
            self.study = optuna.create_study(
                storage=self._storage,
                study_name=search.name,
                direction="maximize" if search.is_better_higher else "minimize",
                pruner=_pruner(search, base.max_epochs),
                load_if_exists=True,
            )
            # Limits and methods may change while a search goes on; what its trials are may not.
            space = {f"space {flag}": str(values) for flag, values in search.space.items()}
            now = base.settings | space | {"objective": search.objective, "seed": search.seed}
            before = self.study.user_attrs.get("definition")
            if before is None:
                self.study.set_user_attr("definition", now)
                if (params := base_params(search, base)) is not None:
                    self.study.enqueue_trial(params, {"is_base": True})
            elif changed := differing(before, json.loads(json.dumps(now))):
                raise ConfigError(f"{folder} holds trials with another {changed[0]}; give this search another name")
        self._study_id = self._storage.get_study_id_from_name(search.name)

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Holds the lock of what is claimed."""
        with locked(self._lock(self._token)):
            try:
                yield
            finally:
                self.tick(at_once=True)
                self._lock(self._token).unlink(missing_ok=True)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All that have been started, or those in these states; not to be changed."""
        known = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return self.study.get_trials(deepcopy=False, states=states or known)

    def claim(self, mine: Container[int]) -> FrozenTrial | None:
        """A trial to run: one that was left behind, or a new one; None where there is none now.

        The choice of a new one depends on the seed, its number, and what is known of the earlier ones.

        Args:
            mine: the numbers of those that run here.
        """
        with locked(self._folder / ".lock"):
            for trial in self.trials(TrialState.RUNNING):
                if trial.number in mine or not self._is_left(trial) or not is_free(self.job_lock(trial)):
                    continue
                if "folder" in trial.user_attrs:
                    self._note(trial.number, "owner", self._token)
                    return trial
                self.tell(trial.number, "the search was killed while it chose the values")
            started = len(self.trials())
            if self._search.trials is not None and started >= self._search.trials:
                return None
            self.study.sampler = _sampler(self._search, started)
            number = self.study.ask(self._search.distributions).number
            # A journal that was cut may have forgotten the trial that had this number and folder.
            name, again = f"trial-{number:04}", 1
            while (self._folder / name).exists():
                name, again = f"trial-{number:04}-{again + 1}", again + 1
            (self._folder / name).mkdir()
            self._note(number, "owner", self._token)
            self._note(number, "folder", name)
            return self.study.get_trials(deepcopy=False)[number]

    def is_waiting(self) -> bool:
        """Whether a trial whose process is gone will be free to be claimed, as soon as its run has stopped."""
        return any(self._is_left(trial) for trial in self.trials(TrialState.RUNNING))

    def job_lock(self, trial: FrozenTrial) -> Path:
        """What a trial's run holds, wherever it runs."""
        return self._folder / f"{trial.user_attrs.get('folder', '.none')}.lock"

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Notes the objective after an epoch; returns whether the trial is to be pruned. The base never is.

        What the search has gained is told against the base's figure.
        """
        identity = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        if epoch not in self._storage.get_trial(identity).intermediate_values:
            self._storage.set_trial_intermediate_value(identity, epoch, value)
        trial = self._storage.get_trial(identity)
        return "is_base" not in trial.user_attrs and self.study.pruner.prune(self.study, trial)

    def tell(self, number: int, reason: str, state: TrialState = TrialState.FAIL, value: float | None = None) -> None:
        """Ends a trial; the reason of its failure or pruning stays with it."""
        if reason:
            self._note(number, "reason", reason)
        self.study.tell(number, value, state=state)

    def tick(self, at_once: bool = False) -> float:
        """Notes now and then that this process is alive; returns the seconds in which at least one was."""
        now = time.time()
        if at_once or now - self._ticked_at > TICK_S:
            self.study.set_user_attr(f"session {self._token}", [self._started_at, now])
            self._ticked_at = now
        sessions = {name: span for name, span in self.study.user_attrs.items() if name.startswith("session ")}
        total, until = 0.0, 0.0
        for start, end in sorted([*sessions.values(), [self._started_at, now]]):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
        return total

    def importances(self) -> dict[str, float]:
        """The share of each flag in what tells good trials from others (PED-ANOVA); empty where they are too few."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_param_importances(self.study) if len(self.trials(TrialState.COMPLETE)) > 2 else {}

    def _note(self, number: int, name: str, value: Any) -> None:
        identity = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        self._storage.set_trial_user_attr(identity, name, value)

    def _is_left(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get("owner")
        return owner in (None, self._token) or is_free(self._lock(owner))

    def _lock(self, token: str) -> Path:
        return self._folder / f".{token}.lock"


def _sampler(search: Search, number: int) -> BaseSampler:
    # A new one for each trial: one that goes on from a seed would begin anew with each process.
    seed = search.seed * 1_000_003 + number
    return TPESampler(seed=seed) if search.sampler == "tpe" else RandomSampler(seed=seed)


def _pruner(search: Search, epochs: int) -> BasePruner:
    if search.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
    return MedianPruner() if search.pruner == "median" else NopPruner()
