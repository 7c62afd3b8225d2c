"""srun and sbatch of a true Slurm whose two nodes are this machine; left out where Slurm is not installed."""

import os
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
from run_folders import only_run
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
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    monkeypatch.chdir(tmp_path)
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
    places = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    flags = [*SMALL, "--trainer.max_epochs=6", "--final_test=false"]

    def srun(*arguments: str) -> "subprocess.Popen[str]":
        command = ["srun", "--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1", sys.executable, *TRUE, "fit"]
        return subprocess.Popen(
            [*command, *arguments], env=environment | {"MASTER_PORT": str(free_port())}, text=True,
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
