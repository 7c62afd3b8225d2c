"""What counts as run, what is to run, and what the plan says of the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from study.fakes import write_run, write_study

from cifar_lightning.errors import ConfigError, OutputError
from cifar_lightning.nets.summary import LayerTable
from cifar_lightning.runner.local import job_environments
from cifar_lightning.runs import environment, record
from cifar_lightning.study.plan import (
    DONE,
    FAILED,
    NEW,
    RESUME,
    Resolved,
    Task,
    duration,
    estimate_s,
    make_plan,
    resolve,
)
from cifar_lightning.study.runner import command
from cifar_lightning.study.spec import read_study
from cifar_lightning.study.store import StoredRun, find_runs

LOGS = Path("lightning_logs/tiny")
STUDY = """\
seeds: [0, 1]
systems:
  plain: {config: base.yaml}
  wide: {config: base.yaml, overrides: {model.net.channels: [8, 8, 16]}, seeds: [0]}
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(**settings: Any) -> list[Task]:
    study = read_study(write_study(STUDY))
    resolved = {system.name: resolve(system) for system in study.systems}
    published = settings.pop("published", None)
    found = {system.name: find_runs(LOGS, published, system.name) for system in study.systems}
    return make_plan(study, resolved, found, environment.package_digest(), **settings)


def fake(name: str = "plain", seed: int = 0, **changes: Any) -> Path:
    systems = {system.name: system for system in read_study(write_study(STUDY)).systems}
    return write_run(LOGS, systems[name], seed, 0.5, **changes)


def checkpoint_in(folder: Path) -> Path:
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


def test_an_empty_folder_is_all_to_run() -> None:
    tasks = planned()
    assert [(task.system.name, task.seed, task.action, task.reason) for task in tasks] == [
        ("plain", 0, NEW, "no run yet"), ("plain", 1, NEW, "no run yet"), ("wide", 0, NEW, "no run yet"),
    ]  # fmt: skip
    assert [task.epochs_left for task in tasks] == [3, 3, 3]
    assert command(tasks[1], LOGS)[1:] == [
        "-m", "cifar_lightning", "fit", "--config", "base.yaml", "--data.source=sample",
        "--seed_everything=1",
        "--trainer.default_root_dir=lightning_logs/tiny/plain",
    ]  # fmt: skip
    assert "--model.net.channels=[8, 8, 16]" in command(tasks[2], LOGS)


def test_a_finished_run_is_its_seed_s_alone() -> None:
    fake(seed=1)
    assert [task.action for task in planned()] == [NEW, DONE, NEW]


def test_other_settings_are_another_run() -> None:
    folder = fake()
    text = (folder / "run.json").read_text().replace('"batch_size": 32', '"batch_size": 64')
    (folder / "run.json").write_text(text)
    task = planned()[0]
    assert (task.action, task.reason) == (NEW, f"not counted: {folder.name}: data.batch_size was 64 and is 32")


def test_the_precision_that_the_machine_chose_is_no_setting() -> None:
    folder = fake()
    text = (folder / "run.json").read_text()
    for precision in ("32-true", "bf16-mixed"):
        text = text.replace(f'"precision": "{precision}"', '"precision": "another"')
    (folder / "run.json").write_text(text)
    assert planned()[0].action == DONE


def test_a_run_of_another_source_counts_only_when_accepted() -> None:
    fake(package_digest="0123456789ab")
    task = planned()[0]
    assert task.action == NEW
    assert "the package's source was 0123456789ab and is " in task.reason
    assert "--accept-source" in task.reason
    assert planned(accept_source=True)[0].action == DONE


def test_a_source_of_before_that_trains_the_same_is_accepted() -> None:
    """That of commit c0ab886, alone or as the source under the first part of a run that went on."""
    digest = "04830c8961ab"
    fake(package_digest=digest)
    assert planned()[0].action == DONE
    fake(seed=1, package_digest=digest, resumed=[{"package_digest": environment.package_digest()}])
    assert planned()[1].action == DONE
    fake("wide", package_digest=digest, resumed=[{"package_digest": "0123456789ab"}])
    assert planned()[2].action == NEW


def test_a_run_that_went_on_with_another_source_has_two() -> None:
    fake(resumed=[{"package_digest": "0123456789ab"}])
    assert planned()[0].action == NEW
    assert planned(accept_source=True)[0].run is not None


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_a_stopped_run_goes_on_from_its_checkpoint(status: str) -> None:
    last = checkpoint_in(fake(status=status, losses=(2.0,)))
    task = planned()[0]
    assert (task.action, task.epochs_left) == (RESUME, 2)
    assert "after epoch 1" in task.reason
    assert command(task, LOGS)[-2:] == ["--ckpt", str(last)]


def test_a_stopped_run_without_a_checkpoint_begins_anew() -> None:
    folder = fake(status="running", losses=(2.0,))
    task = planned()[0]
    assert (task.action, task.reason) == (NEW, f"{folder.name} left no checkpoint here")
    assert "--ckpt" not in command(task, LOGS)


def test_a_failure_stays_until_it_is_tried_again() -> None:
    fake(status="failed", error="NonFiniteError: the train loss is nan")
    task = planned()[0]
    assert (task.action, task.is_due) == (FAILED, False)
    assert task.reason == "NonFiniteError: the train loss is nan (--retry-failed)"
    assert planned(retry_failed=True)[0].action == NEW


def publish_run(run: StoredRun, published: Path) -> Path:
    target = published / "runs" / "tiny-plain" / f"{run.name}.json"
    record.write_run(target, run.content)
    return target


def test_a_published_run_counts_whatever_its_source(tmp_path: Path) -> None:
    folder = fake(package_digest="0123456789ab")
    (run,) = find_runs(LOGS, None, "plain")
    broken = publish_run(run, tmp_path).with_name("broken.json")
    assert planned()[0].action == NEW
    task = planned(published=tmp_path)[0]
    assert (task.action, task.reason) == (DONE, f"{folder.name}, published")
    assert task.run
    assert task.run.folder == folder  # where its pictures are
    for path in folder.iterdir():
        path.unlink()
    task = planned(published=tmp_path)[0]
    assert (task.action, task.reason) == (DONE, f"{folder.name}, published")
    broken.write_text("{}")
    with pytest.raises(OutputError, match=r"broken\.json is not a published run"):
        planned(published=tmp_path)


def test_a_published_run_that_has_gone_on_stays_as_it_was_published(tmp_path: Path) -> None:
    folder = fake()
    (run,) = find_runs(LOGS, None, "plain")
    publish_run(run, tmp_path)
    record = json.loads((folder / "run.json").read_text())
    record["config"]["trainer"]["max_epochs"] += 1
    (folder / "run.json").write_text(json.dumps(record))
    longer, published = sorted(find_runs(LOGS, tmp_path, "plain"), key=lambda found: found.is_published)
    assert (longer.folder, published.folder) == (folder, None)
    assert planned(published=tmp_path)[0].run == published


def test_what_the_digest_of_the_source_covers(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "study").mkdir(parents=True)
    (package / "fit.py").write_text("a = 1\n")
    first = environment.package_digest(package)
    (package / "study" / "page.py").write_text("b = 1\n")
    (package / "notes.txt").write_text("c\n")
    assert environment.package_digest(package) == first
    (package / "fit.py").write_text("a = 2\n")
    assert environment.package_digest(package) != first
    assert len(first) == 12


def test_the_estimate_takes_a_system_s_own_pace_first() -> None:
    assert estimate_s(planned()) is None
    fake(timings={"train_s": 30.0, "val_s": 3.0})
    tasks = planned()
    done, plain, wide = tasks
    assert done.action == DONE
    assert estimate_s([done, plain]) == pytest.approx(33.0)
    ratio = wide.resolved.train_flop_per_image / plain.resolved.train_flop_per_image
    assert ratio > 1.5
    assert estimate_s([done, wide]) == pytest.approx(33.0 * ratio)
    assert estimate_s(tasks) == pytest.approx(33.0 * (1 + ratio))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.4, "4 s"), (89, "89 s"), (90, "2 min"), (3540, "59 min"), (3599, "1 h 00 min"), (18300, "5 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(4)), raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


def threads(number: int, gpu: str | None = None) -> dict[str, str]:
    settings = {"OMP_NUM_THREADS": str(number), "MKL_NUM_THREADS": str(number)}
    return settings | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})


@pytest.mark.parametrize(
    ("jobs", "devices", "visible", "gpu_count", "environments"),
    [
        (None, 1, "", 0, [{}]),
        (1, 1, "", 0, [{}]),
        (2, 1, "", 0, [threads(2)] * 2),
        (3, 1, "", 0, [threads(1)] * 3),
        (None, 1, "", 1, [{}]),
        (None, 1, "", 2, [threads(2, "0"), threads(2, "1")]),
        (None, 2, "", 2, [{}]),
        (1, 1, "4,5", 2, [{}]),
        (4, 1, "4,5", 2, [threads(1, "4"), threads(1, "5")] * 2),
        (2, 1, "4,5", 0, [threads(2)] * 2),  # named, and not there
    ],
)
def test_jobs_share_cores_and_take_gpus_in_turn(
    jobs: int | None,
    devices: int,
    visible: str,
    gpu_count: int,
    environments: list[dict[str, str]],
    four_cores: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpu_count)
    assert job_environments(jobs, devices) == environments


@pytest.mark.parametrize(
    ("devices", "cpus", "gpus", "gpu_count", "environments"),
    [
        (1, 2, None, 0, [threads(2)] * 2),
        (1, 3, None, 0, [threads(3)]),
        (2, 2, None, 0, [threads(1)] * 2),
        (1, 1, 0.5, 1, [threads(1, "0")] * 2),
        (1, None, 2, 4, [threads(2, "0,1"), threads(2, "2,3")]),
        (2, None, None, 4, [threads(1, "0,1"), threads(1, "2,3")]),
        (1, None, 0, 2, [threads(4) | {"CUDA_VISIBLE_DEVICES": ""}]),
    ],
)
def test_as_many_jobs_as_have_what_a_run_asks_for(
    devices: int,
    cpus: int | None,
    gpus: float | None,
    gpu_count: int,
    environments: list[dict[str, str]],
    four_cores: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpu_count)
    assert job_environments(None, devices, cpus, gpus) == environments


@pytest.mark.parametrize(
    ("cpus", "gpus", "message"),
    [(8, None, "--jobs 1 with --cpus-per-run 8: this machine has 4 cores"), (None, 1, "this machine has 0 GPUs")],
)
def test_runs_that_ask_for_more_than_there_is(
    cpus: int | None, gpus: float | None, message: str, four_cores: None
) -> None:
    with pytest.raises(ConfigError, match=message):
        job_environments(None, 1, cpus, gpus)


@pytest.mark.parametrize(
    ("jobs", "devices", "message"), [(5, 1, "has 4 cores"), (0, 1, "at least 1"), (2, 2, "trains on 2 devices")]
)
def test_jobs_that_the_machine_cannot_bear(jobs: int, devices: int, message: str, four_cores: None) -> None:
    with pytest.raises(ConfigError, match=message):
        job_environments(jobs, devices)


@pytest.mark.parametrize(("limit", "images"), [(None, 100), (2, 60), (9, 100), (0.5, 60), (1.0, 100)])
def test_the_images_of_an_epoch_that_is_cut(limit: float | None, images: int) -> None:
    config = {"data": {"batch_size": 30}, "trainer": {"limit_train_batches": limit}}
    assert Resolved({}, config, LayerTable([], (), 0), 2.0, 1.0, 1).epoch_flop(100) == 2 * images
