"""Studies beyond one machine: on simulated nodes of a Ray cluster, and run by run for a job array."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from study.fakes import BASE, write_study

from cifar_lightning.cli import main
from cifar_lightning.study.metrics import METRICS

LOGS = Path("lightning_logs/tiny")
PATIENCE_S = 300.0
# Enough epochs for something to happen in the middle of them.
LONG = BASE.replace("max_epochs: 3", "max_epochs: 25").replace("limit_train_batches: 4", "limit_train_batches: 8")
CPUS = ["--cpus-per-run", "1"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder näme"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("cifar_lightning.study.command.draw", lambda table: {})  # the charts have tests of their own


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that runs nothing; `nodes` adds those that do."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # by default Ray's workers give way to everything else on the machine
        cluster = Cluster()
        cluster.add_node(num_cpus=0, include_dashboard=False)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def nodes(cluster: Any) -> list[Any]:
    """Two nodes with a CPU each."""
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1)
    return list(cluster.worker_nodes)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def epochs_done(seed: int) -> int:
    files = list(LOGS.glob(f"plain/*/*-s{seed}/metrics.csv"))
    return len(files[0].read_text().splitlines()) - 1 if files else 0


def after(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Does something as soon as the condition holds, while the test is in the study."""

    def wait_and_act() -> None:
        wait_until(condition)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def table_without_times() -> dict[str, Any]:
    """study.json without what depends on the machine: times, and names that hold one, and how often it went on."""
    table: dict[str, Any] = json.loads((LOGS / "study.json").read_text())
    timed = {name for name, metric in METRICS.items() if metric.depends_on_machine}
    del table["newest"], table["shown_run"]["name"]
    for run in table["runs"]:
        assert run["status"] == "finished"
        for name in ("name", "started_at", "resumed"):
            del run[name]
    for entry in [*table["runs"], *table["systems"]]:
        entry["metrics"] = {name: value for name, value in entry["metrics"].items() if name not in timed}
    return table


@pytest.mark.slow
@pytest.mark.cluster
def test_a_node_is_lost_in_the_middle(cluster: Any, nodes: list[Any], capfd: pytest.CaptureFixture[str]) -> None:
    study = str(write_study("systems: {plain: {config: base.yaml, seeds: [0, 1, 2, 3, 4, 5, 6, 7]}}", base=LONG))
    both_run = lambda: min(epochs_done(0), epochs_done(1)) >= 2  # noqa: E731
    thread = after(both_run, lambda: cluster.remove_node(nodes[0]))
    assert main(["study", study, "--ray", cluster.address, *CPUS]) == 0, capfd.readouterr().err
    thread.join()
    out = capfd.readouterr().out
    assert out.count("lost its worker") == 1
    assert out.count("test accuracy") == 8
    assert all(re.search(r"\(\S+\)$", line) for line in out.splitlines() if "test accuracy" in line)  # its node
    records = [json.loads(path.read_text()) for path in LOGS.glob("plain/*/*/run.json")]
    assert sorted(record["seed"] for record in records) == list(range(8))  # nothing lost, nothing doubled
    assert sum(len(record.get("resumed", [])) for record in records) == 1
    ours = table_without_times()

    shutil.rmtree(LOGS)
    assert main(["study", study, *CPUS]) == 0
    assert json.dumps(table_without_times()) == json.dumps(ours)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_saves_the_runs_of_all_nodes(
    times: int, cluster: Any, nodes: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Twice: Ray kills its workers at once, and Linux tells the runs."""
    study = str(write_study("systems: {plain: {config: base.yaml, seeds: [0, 1, 2]}}", base=LONG))
    both_run = lambda: min(epochs_done(0), epochs_done(1)) >= 1  # noqa: E731

    def interrupt() -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    thread = after(both_run, interrupt)
    command = ["study", study, "--ray", cluster.address, *CPUS]
    assert main(command) == 130
    thread.join()
    out, err = capfd.readouterr()
    assert out.count("run(s) save and stop") == times
    assert f"go on with: python -m cifar_lightning study {study} --ray {cluster.address}" in err
    if times == 1:  # else they may still be saving
        assert out.count("stopped in epoch") == 2
        records = [json.loads(path.read_text()) for path in LOGS.glob("plain/*/*/run.json")]
        assert [record["status"] for record in records] == ["interrupted"] * 2

    assert main(command) == 0, capfd.readouterr().err
    records = [json.loads(path.read_text()) for path in LOGS.glob("plain/*/*/run.json")]
    assert sorted(len(record.get("resumed", [])) for record in records) == [0, 1, 1]
    assert {record["status"] for record in records} == {"finished"}


@pytest.mark.slow
@pytest.mark.cluster
def test_a_node_that_does_not_see_the_folder(cluster: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """It has another file system mounted over it."""
    LOGS.mkdir(parents=True)
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this system gives no mount namespace")
    ray = Path(sys.executable).with_name("ray")
    start = f"{ray} start --address={cluster.address} --num-cpus 4 --resources '{{\"blind\": 1}}' --block"
    mount = f"mount -t tmpfs none '{LOGS.resolve()}'"
    study = str(write_study("systems: {plain: {config: base.yaml}}"))
    with subprocess.Popen(["unshare", "-rm", "sh", "-c", f"{mount} && exec {start}"], start_new_session=True) as node:
        try:
            cluster.connect()
            import ray as api

            wait_until(lambda: "blind" in api.cluster_resources())
            api.shutdown()
            assert main(["study", study, "--ray", cluster.address, "--cpus-per-run", "4"]) == 6
        finally:
            node.terminate()
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: node ")
    assert error.endswith(f"does not see {LOGS.resolve()}; runs need a folder that all nodes share")
    assert not list(LOGS.glob("plain/*"))


@pytest.mark.slow
@pytest.mark.cluster
def test_no_node_is_large_enough(cluster: Any, nodes: list[Any], capfd: pytest.CaptureFixture[str]) -> None:
    study = str(write_study("systems: {plain: {config: base.yaml}}"))
    assert main(["study", study, "--ray", cluster.address, "--cpus-per-run", "64"]) == 2
    assert "error: no node of the Ray cluster has 64 CPUs and 0 GPUs for a run" in capfd.readouterr().err


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    study = str(write_study("systems: {plain: {config: base.yaml}}"))
    assert main(["study", study, "--ray", "local"]) == 2
    assert capfd.readouterr().err == "error: --ray needs Ray: pip install 'cifar_lightning[ray]'\n"


SEVERAL = """\
systems:
  plain: {config: base.yaml, seeds: [3, 1]}
  broken: {config: base.yaml, overrides: {model.optimizer.lr: 1.0e+30}}
"""


@pytest.mark.slow
@pytest.mark.cluster
def test_run_by_run(capfd: pytest.CaptureFixture[str]) -> None:
    """Several at once, of which two want the same run; then the page."""
    study = str(write_study(SEVERAL))
    assert main(["study", study, "--dry-run"]) == 0
    rows = [line.split()[:3] for line in capfd.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert rows[:3] == [["0", "plain", "3"], ["1", "plain", "1"], ["2", "broken", "0"]]

    command = [sys.executable, "-m", "cifar_lightning", "study", study, *CPUS, "--index"]
    processes = [subprocess.Popen([*command, index]) for index in ("0", "1", "1", "2")]
    assert [process.wait() for process in processes] == [0, 0, 0, 5]
    records = [json.loads(path.read_text()) for path in LOGS.glob("*/*/*/run.json")]
    assert sorted((record["seed"], record["status"]) for record in records) == [
        (0, "failed"), (1, "finished"), (3, "finished"),
    ]  # fmt: skip
    assert {record["hardware"]["threads"] for record in records} == {1}
    assert not (LOGS / "study.json").exists()

    assert main(["study", study, "--index", "2"]) == 1
    assert "error: broken s0 has failed: " in capfd.readouterr().err
    assert main(["study", study, "--gather"]) == 1  # one has failed
    table = json.loads((LOGS / "study.json").read_text())
    assert [run["status"] for run in table["runs"]] == ["finished", "finished", "failed"]


def test_an_index_that_is_not_in_the_plan(capfd: pytest.CaptureFixture[str]) -> None:
    study = str(write_study(SEVERAL))
    for index in ("-1", "3"):
        assert main(["study", study, "--index", index]) == 2
        assert f"error: --index {index}: the plan has 3 runs, from 0 to 2" in capfd.readouterr().err
    assert main(["study", study, "--index", "1", "--gather"]) == 2
    assert "--gather: not allowed with argument --index" in capfd.readouterr().err
