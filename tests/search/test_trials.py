"""A search with a runner that trains nothing: choice, pruning, failures, the journal, and going on."""

import functools
import json
import os
import signal
from pathlib import Path

import pytest
import yaml
from search.fakes import FakeRunner, flag, trial_of, write_search
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError, OutputError, UserError
from cifar_lightning.runner.job import Job, locked
from cifar_lightning.runs.settings import settings_of
from cifar_lightning.search import command, trials
from cifar_lightning.search.journal import JOURNAL, Journal
from cifar_lightning.search.result import Table
from cifar_lightning.search.spec import Search, check, read_search
from cifar_lightning.study.plan import Resolved
from cifar_lightning.study.spec import read_study

LOGS = Path("lightning_logs")
FOLDER = LOGS / "tiny"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trials, "POLL_S", 0.01)
    monkeypatch.setattr(trials, "CLAIM_EVERY_S", 0.05)
    # A disk that is slow to sync says nothing about the search.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@functools.cache
def _base(search_name: str) -> Resolved:
    return check(read_search(Path(f"{search_name}.yaml")))


@pytest.fixture
def tiny(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Search, Resolved]:
    search = read_search(write_search())
    if "to_its_end" not in request.node.name:  # building a net once more takes longer than a search
        monkeypatch.setattr("cifar_lightning.search.result.resolve", lambda system: _base("tiny"))
        if "recipe" not in request.node.name:
            monkeypatch.setattr("cifar_lightning.search.result.recipe", lambda system: {"system": system.name})
            monkeypatch.setattr(command, "draw", lambda table: {})
    return search, _base("tiny")


def run(tiny: tuple[Search, Resolved], runner: FakeRunner, **changes: object) -> Table:
    search = Search(**{**vars(tiny[0]), **changes})
    return command.run_search(search, tiny[1], runner, LOGS, again="this")


def chosen(table: Table) -> list[dict[str, object]]:
    return [trial["params"] for trial in table["trials"]]


def test_a_search_to_its_end(tiny: tuple[Search, Resolved], capfd: pytest.CaptureFixture[str]) -> None:
    runner = FakeRunner()
    table = run(tiny, runner, trials=14)
    assert all(job.argv[-1] == "--final_test=false" and "--data.source=sample" in job.argv for job in runner.submitted)
    assert len({flag(job, "trainer.default_root_dir") for job in runner.submitted}) == 14
    # The base comes first; Hyperband prunes; the figure of a finished trial is that of its last epoch.
    assert table["trials"][0]["params"] == {
        "model.optimizer.lr": 0.001,
        "data.batch_size": 32,
        "model.scheduler": "null",
    }
    pruned = [trial for trial in table["trials"] if trial["status"] == "pruned"]
    assert pruned
    assert all(f"hyperband after epoch {len(trial['curve'])}" == trial["reason"] for trial in pruned)
    finished = [trial for trial in table["trials"] if trial["status"] == "finished"]
    assert len(finished) + len(pruned) == 14
    assert all(len(trial["curve"]) == 4 and trial["value"] == trial["curve"][-1][1] for trial in finished)
    assert table["best"]["value"] == max(trial["value"] for trial in finished) >= table["base"]["value"]
    assert table["train_s"] == sum(3 * len(trial["curve"]) for trial in table["trials"])
    assert table["flop"] > 0
    out = capfd.readouterr().out
    assert out.count("trial ") >= 14
    assert "confirm  python -m cifar_lightning study lightning_logs/tiny/confirm.yaml" in out
    page = (FOLDER / "report.html").read_text()
    assert page.count("data:image/svg+xml") == 4
    assert "hyperband after epoch 1" in page
    assert "<strong>the CIFAR-10 sample" in page
    (machine,) = table["machines"]  # all trials ran on one, with one commit
    assert machine["commit"] == "0123456789ab"
    assert machine["versions"] == {"torch": "2.14.1"}
    assert f"{machine['place']}; commit 012345678, torch 2.14.1." in page
    assert table["definition"]["objective"] == "val_accuracy"
    assert json.loads((FOLDER / "search.json").read_text())["best"]["number"] == table["best"]["number"]
    # HParams has every trial with a figure.
    for trial in table["trials"]:
        points = EventAccumulator(str(FOLDER / f"hparams/trial-{trial['number']:04}")).Reload()
        assert points.Scalars("result/val_accuracy")[-1].value == pytest.approx(trial["value"])
    # The same command has nothing left to do, and gives the same table.
    again = FakeRunner()
    table = run(tiny, again, trials=14)
    assert not again.submitted
    assert chosen(table) == [trial["params"] for trial in json.loads((FOLDER / "search.json").read_text())["trials"]]


def test_the_base_is_never_pruned(tiny: tuple[Search, Resolved]) -> None:
    journal = Journal(Search(**{**vars(tiny[0]), "trials": 12}), FOLDER, tiny[1])
    with journal.owned():
        for number in range(12):
            assert journal.claim(range(number)) is not None
        pruned = [journal.report(number, 1, 0.01 * number) for number in reversed(range(12))]
    assert any(pruned[:-1])
    assert not pruned[-1]


def test_the_best_is_a_recipe_and_a_study(tiny: tuple[Search, Resolved]) -> None:
    table = run(tiny, FakeRunner(), confirm_seeds=2)
    best, values = Experiment("fit", ["--config", str(FOLDER / "best.yaml")]), table["best"]["params"]
    asked = Experiment("fit", tiny[0].system("best", values).flags())
    assert settings_of(best.resolved()) == settings_of(asked.resolved())
    assert best.config.trainer.max_epochs == 6  # the base's, not those of a trial
    assert best.config.data.val_size == 0
    head = (FOLDER / "best.yaml").read_text().splitlines()
    assert head[0].startswith("# Found by the search tiny: validation accuracy")
    assert "4 epochs, 200 validation images, seed 0" in head[1]
    study = read_study(FOLDER / "confirm.yaml")
    assert [system.name for system in study.systems] == ["base", "best"]
    assert study.comparisons == (("best", "base"),)
    assert [check.compare for claim in study.claims for check in claim.checks] == [("best", "base")]
    assert study.systems[0].seeds == (1, 2)  # the search had 0
    assert yaml.safe_load((FOLDER / "base.yaml").read_text())["trainer"]["max_epochs"] == 6


def test_failures_stay_and_others_go_on(tiny: tuple[Search, Resolved], capfd: pytest.CaptureFixture[str]) -> None:
    def meddle(job: Job, epoch: int) -> int | None:
        return {(1, 2): 5, (2, 1): -9}.get((trial_of(job), epoch))

    table = run(tiny, FakeRunner(meddle=meddle), pruner="none")
    assert [trial["status"] for trial in table["trials"]] == ["finished", "failed", "failed", "finished"]
    reasons = [trial["reason"] for trial in table["trials"]]
    assert reasons == [
        "",
        "exit code 5: error: something is wrong",
        "was ended by signal 9: error: something is wrong",
        "",
    ]
    assert reasons[1] in (FOLDER / "report.html").read_text()
    assert "FAILED (exit code 5: error: something is wrong)" in capfd.readouterr().out


def test_nothing_has_finished(tiny: tuple[Search, Resolved]) -> None:
    with pytest.raises(UserError, match="no trial has finished; their logs are lightning_logs/tiny/trial-"):
        run(tiny, FakeRunner(meddle=lambda job, epoch: 2))
    assert (FOLDER / "report.html").read_text().count("exit code 2") == 4


def test_a_fault_of_the_machine_ends_the_search(tiny: tuple[Search, Resolved]) -> None:
    with pytest.raises(UserError, match="trial 1: something is wrong; go on with: this") as stopped:
        run(tiny, FakeRunner(meddle=lambda job, epoch: 3 if trial_of(job) == 1 else None))
    assert stopped.value.exit_code == 3
    assert len(run(tiny, FakeRunner())["trials"]) == 4


def test_a_run_that_is_stopped_from_outside_goes_on(tiny: tuple[Search, Resolved]) -> None:
    stops = [143, 143, None]
    runner = FakeRunner(meddle=lambda job, epoch: stops.pop(0) if trial_of(job) == 1 and epoch == 3 and stops else None)
    table = run(tiny, runner, pruner="none")
    assert [trial["status"] for trial in table["trials"]] == ["finished"] * 4
    assert len(runner.submitted) == 6
    assert sum("--ckpt" in job.argv and job.argv[-1] == "--final_test=false" for job in runner.submitted) == 2
    # It does not go on for ever.
    table = run(tiny, FakeRunner(meddle=lambda job, epoch: 143), trials=5, pruner="none")
    assert table["trials"][4]["reason"] == "exit code 143: error: something is wrong"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_the_same_command(tiny: tuple[Search, Resolved], signum: int) -> None:
    whole = chosen(command.run_search(*_named(tiny, "whole"), FakeRunner(), LOGS))

    def meddle(job: Job, epoch: int) -> int | None:
        if (trial_of(job), epoch) == (2, 3):
            os.kill(os.getpid(), signum)
        return None

    with pytest.raises(UserError, match="stopped; go on with: this") as stopped:
        run(tiny, FakeRunner(meddle=meddle), pruner="none")
    assert stopped.value.exit_code == 128 + signum
    runner = FakeRunner()
    table = run(tiny, runner, pruner="none")
    assert "--ckpt" in runner.submitted[0].argv
    assert trial_of(runner.submitted[0]) == 2
    assert [len(trial["curve"]) for trial in table["trials"]] == [4] * 4
    assert chosen(table) == whole  # as if it had not been stopped


def _named(tiny: tuple[Search, Resolved], name: str) -> tuple[Search, Resolved]:
    return Search(**{**vars(tiny[0]), "name": name, "pruner": "none"}), tiny[1]


def test_the_time_is_up(tiny: tuple[Search, Resolved], capfd: pytest.CaptureFixture[str]) -> None:
    clock = iter(range(10**6))

    def slowly(job: Job, epoch: int) -> int | None:
        journal_time[0] += 600
        return None

    journal_time = [1.0e9]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifar_lightning.search.journal.time.time", lambda: journal_time[0] + next(clock) * 1e-6)
        table = run(tiny, FakeRunner(meddle=slowly), trials=None, hours=1, pruner="none")
    assert "the time is up: 1 trial(s) save and stop" in capfd.readouterr().out
    assert [trial["status"] for trial in table["trials"]] == ["finished", "unfinished"]
    assert table["elapsed_s"] == pytest.approx(3600, abs=1)
    # With more time the trial goes on; the pause does not count.
    table = run(tiny, FakeRunner(), trials=2, hours=2, pruner="none")
    assert [trial["status"] for trial in table["trials"]] == ["finished", "finished"]


def test_a_search_that_was_changed(tiny: tuple[Search, Resolved]) -> None:
    run(tiny, FakeRunner())
    changed = read_search(write_search("trials: 4\n".replace("4", "5") + "overrides: {model.net.dropout: 0.1}\n"))
    with pytest.raises(
        ConfigError, match=r"holds trials with another model\.net\.init_args\.dropout; give this search"
    ):
        command.run_search(changed, check(changed), FakeRunner(), LOGS)
    assert len(run(tiny, FakeRunner(), trials=5, sampler="random")["trials"]) == 5


def test_two_processes_share_a_journal(tiny: tuple[Search, Resolved]) -> None:
    one, other = (Journal(tiny[0], FOLDER, tiny[1]) for _ in range(2))
    with one.owned():
        with other.owned():
            numbers = [journal.claim(set()).number for journal in (one, other)]  # type: ignore[union-attr]
            assert numbers == [0, 1]
            third = one.claim({0})
            assert third is not None
            assert third.number == 2
            assert other.claim({1}).number == 3  # type: ignore[union-attr]
            assert other.claim({1, 3}) is None  # four are enough, and none is left behind
        # The other is gone; its trials are free as soon as their runs are.
        assert one.is_waiting()
        with locked(FOLDER / "trial-0001.lock"), locked(FOLDER / "trial-0003.lock"):
            assert one.claim({0, 2}) is None
        left = one.claim({0, 2})
        assert left is not None
        assert left.number == 1


def test_a_trial_that_was_half_chosen_is_not_run(tiny: tuple[Search, Resolved]) -> None:
    journal = Journal(tiny[0], FOLDER, tiny[1])
    journal.study.ask()  # a process that was killed before it had noted the values
    with journal.owned():
        assert journal.claim(set()).number == 1  # type: ignore[union-attr]
    assert journal.trials()[0].user_attrs["reason"] == "the search was killed while it chose the values"


def test_a_journal_cut_anywhere_opens(tiny: tuple[Search, Resolved], monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 39 of the fault matrix: what was noted before the cut is kept, and the search goes to its end."""
    monkeypatch.setattr("cifar_lightning.search.journal.TICK_S", 0.0)
    table = run(tiny, FakeRunner(), pruner="none")
    path = FOLDER / JOURNAL
    whole = path.read_bytes()
    ends = [place for place, letter in enumerate(whole) if letter == ord("\n")]
    for cut in (*range(ends[-1] - 3, len(whole)), *(ends[len(ends) * part // 7] + 9 for part in range(7))):
        path.write_bytes(whole[:cut])
        journal = Journal(tiny[0], FOLDER, tiny[1])
        finished = [trial.number for trial in journal.trials() if trial.state.is_finished()]
        with journal.owned():
            trial = journal.claim(set())
        assert path.read_bytes().endswith(b"\n")
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert lines
        assert trial is None or trial.number - len(finished) in (0, 1)  # 1 where the cut one was half chosen
    epoch = whole.index(b"\n", whole.index(b'"intermediate_value"', 2 * len(whole) // 3)) - 9
    path.write_bytes(whole[:epoch])
    runner = FakeRunner()
    again = run(tiny, runner, pruner="none")
    assert chosen(again) == chosen(table)
    assert [trial["status"] for trial in again["trials"]] == ["finished"] * 4
    assert 0 < len(runner.submitted) < 4


def test_a_damaged_journal(tiny: tuple[Search, Resolved]) -> None:
    run(tiny, FakeRunner(), trials=1)
    lines = (FOLDER / JOURNAL).read_bytes().splitlines(keepends=True)
    (FOLDER / JOURNAL).write_bytes(b"".join([*lines[:3], b"{nonsense\n", *lines[3:]]))
    with pytest.raises(OutputError, match=r"journal\.log is damaged"):
        run(tiny, FakeRunner())
