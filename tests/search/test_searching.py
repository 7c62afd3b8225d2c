"""A search that really trains: killed and gone on with, from Python as in the docs, and the end of one of two jobs."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from search.fakes import BASE, TINY

from cifar_lightning.cli import main
from cifar_lightning.runner.job import Job
from cifar_lightning.runner.local import LocalRunner

FOLDER = Path("lightning_logs/tiny")
PATIENCE_S = 300.0


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder näme"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_one_job_ends_and_the_others_go_on(tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    jobs = [Job([sys.executable, "-c", code], tmp_path / f"{number}.log") for number in range(2)]
    runner = LocalRunner([{}, {}])
    assert runner.room == 2
    for job in jobs:
        runner.submit(job)
    deadline = time.monotonic() + PATIENCE_S

    def next_end() -> list[tuple[Job, int | None]]:
        while not (ended := runner.ended(0.05)):
            assert time.monotonic() < deadline
        return ended

    while not all(job.log.exists() and job.log.read_text() for job in jobs):
        assert not runner.ended(0.05)
        assert time.monotonic() < deadline
    runner.end(jobs[0])
    assert next_end() == [(jobs[0], -15)]
    runner.end(jobs[0])  # it has ended
    assert list(runner.running) == [jobs[1]]
    runner.stop(15)
    assert next_end() == [(jobs[1], -15)]


@pytest.mark.slow
@pytest.mark.cluster
def test_it_goes_on_after_a_kill(capfd: pytest.CaptureFixture[str]) -> None:
    Path("base.yaml").write_text(BASE)
    Path("tiny.yaml").write_text(TINY.replace("epochs: 4", "epochs: 12") + "trials: 4\npruner: median\n")
    table = FOLDER / "trial-0001"
    with subprocess.Popen([sys.executable, "-m", "cifar_lightning", "search", "tiny.yaml"]) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not any(len(path.read_text().splitlines()) > 3 for path in table.glob("*/*/metrics.csv")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()  # the search alone; its trial is told by Linux, and saves
    capfd.readouterr()
    assert main(["search", "tiny.yaml"]) == 0
    out = capfd.readouterr().out
    assert "trial 0 " not in out
    found = json.loads((FOLDER / "search.json").read_text())
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 4
    (run,) = table.glob("*/*/run.json")  # it went on, and did not begin again
    record = json.loads(run.read_text())
    assert len(record["resumed"]) == 1
    assert "test" not in record["metrics"]
    assert not record["config"]["final_test"]
    # It is the trial that was not stopped.
    values = [f"--{name}={value}" for name, value in found["trials"][1]["params"].items()]
    whole = ["--trainer.max_epochs=12", "--data.val_size=200", "--final_test=false", "--trainer.default_root_dir=whole"]
    subprocess.run(
        [sys.executable, "-m", "cifar_lightning", "fit", "--config", "base.yaml", *values, *whole], check=True
    )
    (other,) = Path("whole").glob("*/*/metrics.csv")
    assert run.with_name("metrics.csv").read_bytes() == other.read_bytes()
    # Nobody has scored the test set.
    assert not any("test" in json.loads(path.read_text())["metrics"] for path in FOLDER.glob("trial-*/*/*/run.json"))
    assert main(["study", str(FOLDER / "confirm.yaml"), "--dry-run"]) == 0
    assert "tiny-confirm: 2 systems, 6 runs" in capfd.readouterr().out


@pytest.mark.slow
def test_the_ten_lines_of_the_docs(capfd: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(code, {})
    last = capfd.readouterr().out.splitlines()[-1]
    assert "{'model.optimizer.lr': " in last
    assert json.loads(Path("lightning_logs/rate/search.json").read_text())["best"]["value"] == float(last.split()[0])
