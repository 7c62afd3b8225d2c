"""srun and sbatch of a true Slurm whose two nodes are this machine; left out where Slurm is not installed."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_folders import only_run, record_of
from study.fakes import BASE, write_study
from test_nodes import SMALL, TESTS, TRUE, free_port, identical

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} State=UNKNOWN
PartitionName=p Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm of two nodes, while the test runs."""
    needed = ("munged", "slurmctld", "slurmd", "srun", "sbatch")
    if missing := [name for name in needed if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]:
        pytest.skip(f"needs Slurm and munge: no {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root to start tasks")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]),
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",  # the names of the nodes are Slurm's own
    }.items():
        monkeypatch.setenv(name, value)
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # the name of a socket may have a hundred letters
    folder.chmod(0o755)
    (folder / "munge.key").touch(mode=0o400)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    ports = [free_port() for _ in range(3)]
    settings = CONFIGURATION.format(host=socket.gethostname(), folder=folder, ports=ports)
    (folder / "slurm.conf").write_text(settings)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    munged = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    munged += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "seed", "log")]
    daemons = []
    try:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]):
            daemons.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(1)
        deadline = time.monotonic() + 60
        sinfo = ["sinfo", "--noheader", "--format=%D %t"]
        while "2 idle" not in (seen := subprocess.run(sinfo, capture_output=True, text=True, check=False).stdout):
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
                pytest.skip(f"two slurmd cannot run here: sinfo says {seen.strip() or 'nothing'}")
            time.sleep(0.5)
        yield
    finally:
        subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], check=False, capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_job_is_one_run_and_goes_on_bit_for_bit_after_its_signal(cluster: None) -> None:
    """What a preempted job does, but for the two minutes that Slurm waits before it starts a job anew."""
    flags = [*SMALL, "--trainer.max_epochs=6", "--final_test=false"]

    def srun(*arguments: str) -> "subprocess.Popen[str]":
        command = ["srun", "--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1", sys.executable, *TRUE, "fit"]
        return subprocess.Popen(
            [*command, *arguments], env=os.environ | {"MASTER_PORT": str(free_port())}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    out, err = (process := srun(*flags, "--trainer.default_root_dir=whole")).communicate(timeout=240)
    assert process.returncode == 0, err
    assert "2 x cpu" in out
    process = srun(*flags, "--trainer.num_nodes=2", "--trainer.default_root_dir=cut")
    assert process.stdout is not None
    while "epoch   1/6" not in process.stdout.readline():
        assert process.poll() is None
    subprocess.run(["scancel", "--signal=USR1", "--user=root"], check=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGUSR1, err
    assert len([line for line in err.splitlines() if line.startswith("error: stopped")]) == 1
    process = srun("--ckpt=last", "--trainer.default_root_dir=cut")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    identical(only_run("whole"), only_run("cut"))


def submitted(block: int, *options: str, **words: str) -> str:
    """Submits the script of docs/scaling.md that is its `block`-th, with these words replaced; returns its number."""
    page = (TESTS.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
    script = re.findall(r"```\n(#SBATCH .*?)```", page, re.DOTALL)[block]
    for word, other in words.items():
        assert f" {word} " in script
        script = script.replace(f" {word} ", f" {other} ")
    Path("script.sh").write_text(f"#!/bin/bash\n{script}")
    done = subprocess.run(["sbatch", "--parsable", *options, "script.sh"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def wait_until_written(path: Path, text: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not path.is_file() or text not in path.read_text():
        assert time.monotonic() < deadline, path.read_text() if path.is_file() else f"no {path}"
        time.sleep(0.5)


def wait_until_queued_again(job: str) -> None:
    """And lets it start: Slurm itself waits two minutes."""
    deadline = time.monotonic() + 60
    show = ["squeue", "--noheader", "--format=%r", f"--jobs={job}"]
    while "BeginTime" not in subprocess.run(show, capture_output=True, text=True, check=False).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)


def test_the_training_script_of_the_docs_is_queued_again_and_goes_on(cluster: None) -> None:
    flags = " ".join([*SMALL, "--trainer.max_epochs=6"])
    job = submitted(0, "--ntasks-per-node=1", "--gres=none", **{"fit": f"fit {flags}", "128": "500"})
    output = Path(f"slurm-{job}.out")
    wait_until_written(output, "epoch   1/6")
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    wait_until_queued_again(job)
    wait_until_written(output, "\ntest ")
    assert "SIGUSR1: stopping" in output.read_text()
    assert len(record_of(only_run(f"runs/{job}"))["resumed"]) == 1


def test_the_torchrun_script_of_the_docs_is_queued_again_and_goes_on(cluster: None) -> None:
    """Its only epoch is long, so that the checkpoint it goes on from can only be that of the signal."""
    flags = " ".join([*SMALL, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1.0"])
    words = {"fit": f"fit {flags}", "4": "1", "128": "4", "$HEAD:29500": f"127.0.0.1:{free_port()}"}
    job = submitted(1, "--ntasks-per-node=1", "--gres=none", **words)
    output = Path(f"slurm-{job}.out")
    wait_until_written(output, "\nall ")
    time.sleep(2)  # the first steps
    subprocess.run(["scancel", "--signal=USR1", "--batch", job], check=True)
    wait_until_queued_again(job)
    wait_until_written(output, "\ntest ")
    assert output.read_text().count("epoch   1/1") == 1
    assert len(record_of(only_run(f"runs/{job}"))["resumed"]) == 1


def test_the_array_of_the_docs_is_the_runs_of_a_study(cluster: None) -> None:
    base = BASE.replace("max_epochs: 3", "max_epochs: 40").replace("limit_train_batches: 4", "limit_train_batches: 20")
    study = write_study("systems:\n  one: {config: base.yaml, seeds: [0, 1]}\n", base=base)
    job = submitted(2, "--array=0-1", "--cpus-per-task=1", report=str(study), **{"4": "1"})
    outputs = [Path(f"slurm-{job}_{index}.out") for index in (0, 1)]
    wait_until_written(outputs[0], "epoch   1/40")
    subprocess.run(["scancel", "--signal=TERM", f"{job}_0"], check=True)
    wait_until_queued_again(f"{job}_0")
    for output in outputs:
        wait_until_written(output, "\ntest ")
    assert "SIGTERM: stopping" in outputs[0].read_text()
