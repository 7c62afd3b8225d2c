"""What the verb `record` takes, and the table of single runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tables import runs_table
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs import results
from cifar_lightning.runs.record import RunRecord, read_record, write_record
from cifar_lightning.runs.settings import without_folders

PROJECT = Path(__file__).parent.parent


def finished(tmp_path: Path, name: str = "run-s0", **changes: object) -> Path:
    folder = tmp_path / "logs" / "final" / name
    folder.mkdir(parents=True)
    record = {
        "recipe": "final",
        "seed": 0,
        "status": "finished",
        "dirty": False,
        "command": "python -m cifar_lightning fit --data.root /home/me/my/cifar10 --config configs/report/final.yaml",
        "precision": "bf16-mixed",
        "hardware": {"cpu": "A CPU", "threads": 2},
        "data": {"train": 50_000, "val": 0, "test": 10_000},
        "config": {
            "seed_everything": 0,
            "data": {"batch_size": 30, "root": "/home/me/my/cifar10"},
            "trainer": {"max_epochs": 30, "default_root_dir": "lightning_logs"},
        },
        "timings": {"train_s": 600.0},
        "metrics": {"epochs": 30, "test": {"accuracy": 0.7812, "images": 10_000}},
        **changes,
    }
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.csv").write_text("epoch,train_loss,val_loss\n1,1.5,\n2,1.25,2\n")
    (folder / "timings.csv").write_text("epoch,train_s\n1,20.5\n2,20\n")
    (folder / "curves.png").write_bytes(b"picture")
    return folder


def test_a_record_holds_the_run_its_epochs_and_no_path_of_the_machine(tmp_path: Path) -> None:
    target = results.record_run(finished(tmp_path), tmp_path / "results")
    assert target == tmp_path / "results" / "runs" / "final" / "run-s0.json"
    content = json.loads(target.read_text())
    assert content["epochs"] == [{"epoch": 1, "train_loss": 1.5}, {"epoch": 2, "train_loss": 1.25, "val_loss": 2}]
    assert content["run"]["config"]["data"]["root"] == "cifar10"
    assert content["run"]["command"].endswith("fit --data.root cifar10 --config configs/report/final.yaml")
    assert "/home" not in target.read_text()
    assert target.with_suffix(".png").read_bytes() == b"picture"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b/c.yaml", "c.yaml"),
        ("--data.root=/a/b", "--data.root=b"),
        ("configs/report/final.yaml", "configs/report/final.yaml"),
        ("~/me/data", "data"),
        ("1/2 and a/b", "1/2 and a/b"),
        ("../shared/x", "../shared/x"),
        ("[a](https://arxiv.org/abs/1706.04599), see /a/b", "[a](https://arxiv.org/abs/1706.04599), see b"),
        ("file:///a/b", "file://b"),
    ],
)
def test_folders_of_the_machine_are_cut(text: str, expected: str) -> None:
    assert without_folders({"x": [text]}) == {"x": [expected]}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sample": "fallback"}, "trained on the sample since CIFAR-10 was not there"),
        ({"status": "interrupted"}, "is interrupted and has no final test score; finish it with"),
        ({"metrics": {"epochs": 30}}, "has no final test score"),
        ({"metrics": {"epochs": 30, "test": {"images": 500}}}, "was tested on 500 images; a result needs all 10,000"),
        ({"dirty": True}, "ran code that is in no commit"),
        ({"dirty": None}, "ran code that is in no commit"),
        ({"command": "python -m cifar_lightning fit --model.net=My --data.root /x"}, r"--model\.net changed it"),
        (
            {"resumed": [{"command": "python -m cifar_lightning fit --ckpt --trainer.max_epochs 3"}]},
            "max_epochs changed",
        ),
        (
            {"resumed": [{"command": "python -m cifar_lightning fit --ckpt", "dirty": True}]},
            "code that is in no commit",
        ),
        ({"resumed": [{"command": "python -m cifar_lightning fit --ckpt -c b.yaml"}]}, "-c changed it"),
        ({"command": "python -m cifar_lightning fit --config a.yaml --config=b.yaml"}, "--config changed it"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, changes: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        results.record_run(finished(tmp_path, **changes), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_one_seed_is_a_figure_and_several_are_mean_and_deviation(tmp_path: Path) -> None:
    recorded = tmp_path / "results"
    results.record_run(finished(tmp_path, "a-s0"), recorded)
    assert "| 78.12% | 1 | 78.34% |" in runs_table(recorded)
    results.record_run(
        finished(tmp_path, "b-s1", seed=1, metrics={"epochs": 30, "test": {"accuracy": 0.7912, "images": 10_000}}),
        recorded,
    )
    table = runs_table(recorded)
    assert (
        "| final | 50,000 | 30 | 30 | 78.62% ± 0.71% | 2 | 78.34% | 10 min, 2 threads of A CPU, bf16-mixed |" in table
    )


def test_a_recipe_is_one_set_of_settings_and_each_seed_counts_once(tmp_path: Path) -> None:
    recorded = tmp_path / "results"
    results.record_run(finished(tmp_path, "a-s0"), recorded)
    results.record_run(tmp_path / "logs" / "final" / "a-s0", recorded)  # the same run again replaces itself
    with pytest.raises(ConfigError, match=r"seed 0 of final is recorded already, in .*a-s0"):
        results.record_run(finished(tmp_path, "b-s0"), recorded)
    other = {"seed_everything": 1, "data": {"batch_size": 64}, "trainer": {"max_epochs": 30}}
    with pytest.raises(ConfigError, match="have the recipe's name in common and not its settings"):
        results.record_run(finished(tmp_path, "c-s1", seed=1, config=other), recorded)
    assert [path.name for path in recorded.glob("runs/*/*.json")] == ["a-s0.json"]


@pytest.mark.parametrize(
    ("change", "is_the_same"),
    [
        (
            {"model": {"scheduler": None}, "data": {"batch_size": 30, "augment": {"flip": "none"}}},
            True,
        ),  # a younger run
        ({"model": {"scheduler": None, "compile": False}, "data": {"root": "elsewhere", "batch_size": 30}}, True),
        ({"model": {"scheduler": {"class_path": "StepLR"}}, "data": {"batch_size": 30}}, False),
        ({"model": {"scheduler": None}, "data": {"batch_size": 30, "augment": {"flip": "random"}}}, False),
        ({"model": {"scheduler": None, "compile": True}, "data": {"batch_size": 30}}, False),
        ({"model": {"scheduler": None}, "data": {"batch_size": 31}}, False),
    ],
)
def test_which_settings_are_a_recipe_s(tmp_path: Path, change: dict[str, Any], is_the_same: bool) -> None:
    first = {"seed_everything": 0, "model": {"scheduler": None}, "data": {"batch_size": 30}, "trainer": {}}
    recorded = tmp_path / "results"
    results.record_run(finished(tmp_path, "a-s0", config=first), recorded)
    second = finished(tmp_path, "b-s1", seed=1, config=first | change)
    if is_the_same:
        results.record_run(second, recorded)
    else:
        with pytest.raises(ConfigError, match="have the recipe's name in common and not its settings"):
            results.record_run(second, recorded)


FINAL = "2026-11-23_19-57-19-s0.json"
ARCHIVE = sorted((PROJECT / "results" / "runs").glob("*/*.json"))


def test_a_record_of_any_age_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    assert len(ARCHIVE) >= 24
    for path in ARCHIVE:
        run = json.loads(path.read_text(encoding="utf-8"))["run"]
        again = RunRecord.from_json(run).to_json()
        assert (again, list(again)) == (run, list(run)), path
    oldest = RunRecord.from_json(json.loads((ARCHIVE[0].parents[1] / "final" / FINAL).read_text())["run"])
    assert (oldest.package_digest, oldest.dropped_per_epoch, oldest.digests) == (None, None, ["unknown"])


def test_fields_of_a_later_version_survive(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"seed": 3, "later": [1], "resumed": [{"dirty": True, "new": 2}]}))
    run = read_record(tmp_path)
    assert [session.dirty for session in run.sessions] == [None, True]
    write_record(tmp_path, run)
    content = json.loads((tmp_path / "run.json").read_text())
    assert (content["seed"], content["later"], content["resumed"][0]["new"]) == (3, [1], 2)


def test_a_run_that_a_study_has_published_is_no_row_of_the_recipes(tmp_path: Path) -> None:
    """The study's runs of the recipe `final` stand under the study's name; the table's row is the recorded one's."""
    rows = [files.run for path, files in results.read_results(PROJECT / "results") if files.run.recipe == "final"]
    assert [run.started_at[:10] for run in rows] == ["2026-11-23"]
    assert sum(path.parent.name == "report-final" for path in ARCHIVE) >= 3
