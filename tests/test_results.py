"""What is recorded, and that the README's table is computed from nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from cifar_lightning.errors import ConfigError
from cifar_lightning.runs import record
from cifar_lightning.runs.record import BEGIN, END
from cifar_lightning.runs.settings import without_folders

PROJECT = Path(__file__).parent.parent


def finished(tmp_path: Path, name: str = "run-s0", **changes: object) -> Path:
    folder = tmp_path / "logs" / "final" / name
    folder.mkdir(parents=True)
    record = {
        "recipe": "final",
        "seed": 0,
        "status": "finished",
        "synthetic": False,
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
    target = record.record_run(finished(tmp_path), tmp_path / "results")
    assert target == tmp_path / "results" / "final" / "run-s0.json"
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
        ({"synthetic": True}, "synthetic stand-in"),
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
        record.record_run(finished(tmp_path, **changes), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_one_seed_is_a_figure_and_several_are_mean_and_deviation(tmp_path: Path) -> None:
    recorded = tmp_path / "results"
    record.record_run(finished(tmp_path, "a-s0"), recorded)
    assert "| 78.12% | 1 | 78.34% |" in record.render_table(record.read_results(recorded))
    record.record_run(
        finished(tmp_path, "b-s1", seed=1, metrics={"epochs": 30, "test": {"accuracy": 0.7912, "images": 10_000}}),
        recorded,
    )
    table = record.render_table(record.read_results(recorded))
    assert (
        "| final | 50,000 | 30 | 30 | 78.62% ± 0.71% | 2 | 78.34% | 10 min, 2 threads of A CPU, bf16-mixed |" in table
    )


def test_a_recipe_is_one_set_of_settings_and_each_seed_counts_once(tmp_path: Path) -> None:
    recorded = tmp_path / "results"
    record.record_run(finished(tmp_path, "a-s0"), recorded)
    record.record_run(tmp_path / "logs" / "final" / "a-s0", recorded)  # the same run again replaces itself
    with pytest.raises(ConfigError, match=r"seed 0 of final is recorded already, in .*a-s0"):
        record.record_run(finished(tmp_path, "b-s0"), recorded)
    other = {"seed_everything": 1, "data": {"batch_size": 64}, "trainer": {"max_epochs": 30}}
    with pytest.raises(ConfigError, match="have the recipe's name in common and not its settings"):
        record.record_run(finished(tmp_path, "c-s1", seed=1, config=other), recorded)
    assert [path.name for path in recorded.glob("*/*.json")] == ["a-s0.json"]


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
    record.record_run(finished(tmp_path, "a-s0", config=first), recorded)
    second = finished(tmp_path, "b-s1", seed=1, config=first | change)
    if is_the_same:
        record.record_run(second, recorded)
    else:
        with pytest.raises(ConfigError, match="have the recipe's name in common and not its settings"):
            record.record_run(second, recorded)


def test_the_table_replaces_the_one_between_the_marks_only() -> None:
    readme = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert record.replace_table(readme, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    for broken in ("before", f"{BEGIN} only", f"{END}{BEGIN}"):
        with pytest.raises(ConfigError, match="no place for the table"):
            record.replace_table(broken, "new")


def test_the_readme_s_table_is_that_of_the_recorded_runs() -> None:
    recorded = [(path.relative_to(PROJECT), content) for path, content in record.read_results(PROJECT / "results")]
    assert recorded, "no recorded runs found"
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert record.replace_table(readme, record.render_table(recorded)) == readme
