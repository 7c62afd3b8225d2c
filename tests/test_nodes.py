"""What surrounds the processes of a run: two hosts, a job's variables, a terminal that closes."""

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from run_folders import only_run, record_of
from test_ranks import PARITY, SAMPLE, TINY_NET, rows, weights
from tiny import TINY_FLAGS

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]

TESTS = Path(__file__).parent
CPU = "--trainer.accelerator=cpu"
# Ten steps an epoch.
SMALL = [*SAMPLE, *TINY_NET, CPU, "--data.batch_size=500", "--trainer.max_epochs=2"]
TRUE = ["-m", "cifar_lightning"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts python with these arguments in the test's folder; nothing of it outlives the test."""
    monkeypatch.chdir(tmp_path)
    started: list[subprocess.Popen[str]] = []

    def starter(*arguments: str, prefix: Sequence[str] = (), **variables: str) -> "subprocess.Popen[str]":
        places = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"} | variables
        process = subprocess.Popen(
            [*prefix, sys.executable, *arguments], env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield starter
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


Start = Callable[..., "subprocess.Popen[str]"]


def torchrun(*flags: str, processes: int = 2, port: int = 0) -> list[str]:
    """Its arguments for python, up to the program."""
    return [
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={processes}",
        f"--master-port={port or free_port()}",
        *flags,
    ]


def ended(process: "subprocess.Popen[str]", exit_code: int = 0, timeout: float = 240) -> tuple[str, str]:
    """What it printed, when it has ended as it should."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == exit_code, err
    return out, err


def same(one: Path, other: Path) -> None:
    """As one process, but for the order in which sums are taken."""
    for name, value in weights(one).items():
        if "metrics" not in name:
            torch.testing.assert_close(weights(other)[name], value, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(rows(other), rows(one), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)
    tests = [record_of(folder)["metrics"]["test"] for folder in (one, other)]
    assert tests[1]["images"] == tests[0]["images"] == sum(map(sum, tests[1]["confusion_matrix"]))
    assert tests[1]["loss"] == pytest.approx(tests[0]["loss"], rel=1e-3)


def identical(one: Path, other: Path) -> None:
    """The same weights, bit for bit, and the same table."""
    for name, value in weights(one).items():
        if "metrics" not in name:
            assert torch.equal(weights(other)[name], value), name
    assert rows(other) == [pytest.approx(row, rel=1e-6) for row in rows(one)]


@pytest.mark.parametrize("node", [0, 1])
def test_a_rank_that_waits_for_the_others_can_be_stopped(start: Start, node: int) -> None:
    """Alone: rank 0 keeps the meeting place, rank 1 looks for it."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": str(node)}
    process = start(*TRUE, "fit", *SMALL, "--trainer.num_nodes=2", **where)
    time.sleep(15)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM  # which a shell calls 143


def test_a_closed_terminal_saves_and_ends(start: Start) -> None:
    """Writing to it fails from then on."""
    outer, inner = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *TRUE, "fit", *SMALL, "--trainer.max_epochs=500"], env=environment, start_new_session=True,
        stdin=inner, stdout=inner, stderr=inner, preexec_fn=controlling_terminal,
    )  # fmt: skip
    os.close(inner)
    seen = b""
    while b"epoch   1/500" not in seen:
        seen += os.read(outer, 1000)
    os.close(outer)  # the kernel sends SIGHUP
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert record_of(only_run())["status"] == "interrupted"
    assert record_of(only_run())["error"].startswith("Stopped: stopped ")


def controlling_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_variables_of_a_job_without_srun_change_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in sbatch's script, beside a checkpoint of Lightning's requeueing that another run has left."""
    assert run("fit", *TINY_FLAGS)[0] == 0
    before = only_run()
    shutil.copy(before / "checkpoints" / "last.ckpt", "lightning_logs/hpc_ckpt_1.ckpt")
    for name, value in {
        "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
        "SLURM_JOB_NAME": "train",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    exit_code, _, err = run("fit", *TINY_FLAGS)
    assert exit_code == 0
    assert not err
    (after,) = set(Path("lightning_logs").glob("*/*")) - {before}
    assert (after / "metrics.csv").read_bytes() == (before / "metrics.csv").read_bytes()


STEP = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "127.0.0.1,127.0.0.2", "SLURM_JOB_NAME": "train",
    "SLURM_LOCALID": "0",
}  # fmt: skip


def test_the_tasks_of_a_step_are_one_run(start: Start) -> None:
    """The variables that srun sets, without Slurm; a checkpoint of another run's requeueing lies in the logs."""
    ended(start(*TRUE, "fit", *PARITY, "--trainer.default_root_dir=one"))
    Path("two").mkdir()
    shutil.copy(only_run("one") / "checkpoints" / "last.ckpt", "two/hpc_ckpt_1.ckpt")
    port = str(free_port())
    flags = [*PARITY, "--trainer.num_nodes=2", "--trainer.default_root_dir=two"]
    tasks = [
        start(*TRUE, "fit", *flags, **STEP, SLURM_PROCID=task, SLURM_NODEID=task, MASTER_PORT=port) for task in "01"
    ]
    out, err = ended(tasks[0])
    assert "2 x cpu" in out
    assert not err
    assert ended(tasks[1]) == ("", "")
    same(only_run("one"), next(Path("two").glob("*/*")))


@pytest.fixture
def two_namespaces() -> Iterator[list[list[str]]]:
    """Commands that enter two network namespaces, which a pair of virtual devices joins."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip")
    names = [f"cl{os.getpid()}{letter}" for letter in "ab"]
    commands = [
        *(f"ip netns add {name}" for name in names),
        f"ip link add {names[0]} netns {names[0]} type veth peer name {names[1]} netns {names[1]}",
        *(
            f"ip -n {name} {what}"
            for number, name in enumerate(names)
            for what in (f"addr add 10.77.0.{number + 1}/24 dev {name}", f"link set {name} up", "link set lo up")
        ),
    ]
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"network namespaces are not permitted here: {command}: {done.stderr.strip()}")
        yield [["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={name}"] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_two_nodes_with_networks_of_their_own(start: Start, two_namespaces: list[list[str]]) -> None:
    ended(start(*TRUE, "fit", *PARITY, "--trainer.default_root_dir=one"))
    agents = [
        start(
            *torchrun("--nnodes=2", f"--node-rank={node}", "--master-addr=10.77.0.1", processes=1, port=29500), *TRUE,
            "fit", *PARITY, "--trainer.default_root_dir=two", prefix=prefix,
        )
        for node, prefix in enumerate(two_namespaces)
    ]  # fmt: skip
    assert "2 x cpu" in ended(agents[0])[0]
    ended(agents[1])
    same(only_run("one"), only_run("two"))
