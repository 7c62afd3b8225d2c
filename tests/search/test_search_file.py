"""A search's file: each mistake is one line with the file and the key, before the first trial."""

import sys
from pathlib import Path

import pytest
from search.fakes import BASE, TINY, write_search

from cifar_lightning.cli import main
from cifar_lightning.config.recipes import SEARCHES
from cifar_lightning.errors import ConfigError
from cifar_lightning.search.spec import Choices, Range, base_params, check, read_search


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_whole_file() -> None:
    search = read_search(write_search("trials: 4\nobjective: val_loss\nhours: 0.5\n"))
    assert (search.name, search.trials, search.hours, search.is_better_higher) == ("tiny", 4, 0.5, False)
    assert search.space["model.optimizer.lr"] == Range(1e-4, 1e-1, log=True)
    assert search.space["data.batch_size"] == Range(16, 64, step=16)
    assert search.space["model.scheduler"] == Choices([None, "CosineLR"])
    kinds = {name: type(kind).__name__.removesuffix("Distribution") for name, kind in search.distributions.items()}
    assert kinds == {"model.optimizer.lr": "Float", "data.batch_size": "Int", "model.scheduler": "Categorical"}
    trial = search.trial("trial-0001", {"model.optimizer.lr": 0.01, "model.scheduler": "CosineLR"})
    assert trial.flags() == [
        "--config", "base.yaml", "--model.optimizer.lr=0.01", "--model.scheduler=CosineLR", "--trainer.max_epochs=4",
        "--data.val_size=200",
    ]  # fmt: skip
    # The base is a point of the space: the first trial.
    params = {"model.optimizer.lr": 0.001, "data.batch_size": 32, "model.scheduler": "null"}
    assert base_params(search, check(search)) == params


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "the search: expected a mapping, got ['a list']"),
        ("trials: 3", "space: expected flags with their values"),
        (TINY, "trials or hours: one of them says when it ends"),
        (TINY + "trials: many", "trials: expected int, null, got many"),
        (TINY + "trials: 0", "trials must be above 0, got 0"),
        (TINY + "trial: 3", "the search: unknown field 'trial', did you mean 'trials'?"),
        (TINY + "trials: 3\nsampler: tqe", "sampler: expected"),
        (TINY + "trials: 3\nfinal_test: true", "the search: unknown field 'final_test'"),
        (TINY + "trials: 3\noverrides: {final_test: true}", "overrides: final_test is set by the search itself"),
        (TINY + "trials: 3\noverrides: {model.optimizer.lr: 1}", "overrides: model.optimizer.lr is in the space"),
        (TINY + "  final_test: {choices: [true]}\ntrials: 3", "space: final_test is set by the search itself"),
        (TINY + "  data.split_seed: {low: 0, high: 9}\ntrials: 3", "space: data.split_seed is set by the search"),
        (TINY + "  model.net.dropout: {low: 1}\ntrials: 3", "space: model.net.dropout: "),
        (TINY + "  model.net.dropout: {low: 1, high: 0}\ntrials: 3", "space: model.net.dropout: "),
        (TINY + "  model.net.dropout: {low: 0.0, high: 1, log: true}\ntrials: 3", "space: model.net.dropout: "),
        (TINY + "  model.net.dropout: {lwo: 1}\ntrials: 3", "unknown field 'lwo', did you mean 'low'?"),
        (TINY + "  model.net.dropout: {choices: []}\ntrials: 3", "space: model.net.dropout: "),
        (TINY.replace("base.yaml", "nowhere") + "trials: 3", "--config nowhere: no such file or recipe"),
        (TINY + "  model.optimiser.lr: {low: 0, high: 1}\ntrials: 3", "did you mean '--model.optimizer.lr'?"),
        (TINY + "  model.net.dropout: {choices: [0, much]}\ntrials: 3", "model.net.dropout"),
        (TINY + "  model.net.dropout: {low: 0.0, high: 1.5}\ntrials: 3", "space: model.net.dropout: 1.5: "),
        (TINY.replace("val_size: 200\n", "") + "trials: 3", "the base has no validation split"),
        (TINY.replace("base: base.yaml", "base: {a: 1}") + "trials: 3", "base: expected"),
    ],
)
def test_mistakes(text: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("base.yaml").write_text(BASE)
    Path("wrong.yaml").write_text(text)
    assert main(["search", "wrong.yaml"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("error: search wrong.yaml: ")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_no_such_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "nowhere"]) == 2
    assert "one of the package's searches: report" in capfd.readouterr().err


def test_the_package_s_searches_can_run(capfd: pytest.CaptureFixture[str]) -> None:
    names = [path.stem for path in SEARCHES.glob("*.yaml")]
    assert names
    for name in names:
        assert main(["search", name, "--dry-run"]) == 0
        assert "every value is one that fit takes" in capfd.readouterr().out


def test_without_optuna(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("cifar_lightning.search")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["search", "report"]) == 2
    assert capfd.readouterr().err == "error: search needs Optuna: pip install 'cifar_lightning[search]'\n"


def test_a_bad_combination_is_not_blamed_on_one_flag() -> None:
    text = "  model.scheduler.end: {low: 0.0, high: 0.1}\ntrials: 3"
    search = read_search(write_search(text))
    with pytest.raises(ConfigError, match=r"space: model\.scheduler\.end"):
        check(search)
