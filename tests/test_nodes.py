"""Processes that a launcher has started, on one node and on two: torchrun, srun, Lightning's own on each by hand."""

import json
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

from cifar_lightning.runs.run_dir import in_use

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]

TESTS = Path(__file__).parent
CPU = "--trainer.accelerator=cpu"
# Ten steps an epoch.
SMALL = [*SAMPLE, *TINY_NET, CPU, "--data.batch_size=500", "--trainer.max_epochs=2"]
TRUE = ["-m", "cifar_lightning"]
FAULTY = [str(TESTS / "faults" / "rank_cli.py")]


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


def errors(err: str) -> list[str]:
    """Our lines; torchrun's report of a failure stands beside them."""
    return [line for line in err.splitlines() if line.startswith("error: ")]


def by_hand(start: Start, program: Sequence[str], *flags: str, **variables: str) -> list["subprocess.Popen[str]"]:
    """Lightning's own launcher on each of two nodes."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())} | variables
    return [
        start(*program, "fit", *flags, "--trainer.num_nodes=2", "--trainer.devices=2", **where, NODE_RANK=str(node))
        for node in (0, 1)
    ]


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


def test_one_process_torchrun_and_two_nodes_train_alike(start: Start) -> None:
    ended(start(*TRUE, "fit", *PARITY, "--trainer.default_root_dir=one"))
    out, err = ended(start(*torchrun(), *TRUE, "fit", *PARITY, "--trainer.default_root_dir=two"))
    assert "2 x cpu" in out
    assert out.count("test    accuracy") == 1
    assert not err
    port = free_port()
    agents = [
        start(
            *torchrun("--nnodes=2", f"--node-rank={node}", "--master-addr=127.0.0.1", port=port), *TRUE, "fit",
            *PARITY, "--trainer.default_root_dir=four",
        )
        for node in (1, 0)
    ]  # fmt: skip
    assert ended(agents[0]) == ("", "")  # only rank 0 speaks
    out, err = ended(agents[1])
    assert "4 x cpu" in out
    assert not err
    same(only_run("one"), only_run("two"))
    same(only_run("one"), only_run("four"))


@pytest.mark.cluster
def test_two_nodes_by_hand_are_one_run(start: Start) -> None:
    ended(start(*TRUE, "fit", *PARITY, "--trainer.default_root_dir=one"))
    first, second = by_hand(start, TRUE, *PARITY, "--trainer.default_root_dir=four")
    assert "4 x cpu" in ended(first)[0]
    assert ended(second) == ("", "")
    same(only_run("one"), only_run("four"))
    # Without the other node there is nothing to wait for.
    _, err = ended(start(*TRUE, "fit", "--ckpt=last", PARITY[3], "--trainer.default_root_dir=four"), exit_code=2)
    assert "trainer.num_nodes 2: start it with torchrun or srun" in err


@pytest.mark.cluster
def test_a_run_under_torchrun_stops_and_goes_on_bit_for_bit(start: Start) -> None:
    flags = [*SMALL, "--trainer.max_epochs=3", "--data.batch_size=50", "--final_test=false"]
    ended(start(*torchrun(), *TRUE, "fit", *flags, "--trainer.default_root_dir=whole"))
    process = start(*torchrun(), *FAULTY, "fit", *flags, "--trainer.default_root_dir=cut", RANK_FAULT="1 term 120")
    _, err = ended(process, exit_code=1)  # torchrun's own
    assert len(errors(err)) == 1
    assert "stopped in epoch 2; go on with" in err
    assert record_of(only_run("cut"))["status"] == "interrupted"
    content = torch.load(only_run("cut") / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 98 + 50
    ended(start(*torchrun(), *TRUE, "fit", "--ckpt", "last", "--trainer.default_root_dir=cut"))
    identical(only_run("whole"), only_run("cut"))


@pytest.mark.parametrize(
    ("launcher", "rank"), [pytest.param("torchrun", 1, marks=pytest.mark.cluster), ("lightning", 0)]
)
def test_a_killed_rank_ends_the_others_with_its_name(start: Start, launcher: str, rank: int) -> None:
    program = torchrun() if launcher == "torchrun" else []
    flags = [] if launcher == "torchrun" else ["--trainer.devices=2"]
    process = start(*program, *FAULTY, "fit", *SMALL, *flags, RANK_FAULT=f"{rank} kill 12")
    _, err = process.communicate(timeout=60)
    assert process.returncode == (1 if launcher == "torchrun" or rank else -signal.SIGKILL)
    (line,) = errors(err)
    assert f"rank {rank} on {socket.gethostname()} was killed" in line
    deadline = time.monotonic() + 20
    while is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(process.pid), "a process of the run lives on"


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.cluster
def test_a_killed_rank_of_the_other_node_is_named(start: Start) -> None:
    first, second = by_hand(start, FAULTY, *SMALL, RANK_FAULT="3 kill 12")
    _, err = ended(first, exit_code=1, timeout=60)
    assert errors(err) == [line for line in errors(err) if "rank 3 on" in line]
    assert len(errors(err)) == 1
    _, err = second.communicate(timeout=60)
    assert not errors(err)


@pytest.mark.cluster
def test_torchrun_starts_a_killed_group_anew_from_its_checkpoint(start: Start) -> None:
    """More than two processes add up in an order that depends on where DDP keeps a gradient."""
    processes = 4
    flags = ["--max-restarts=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=a"]
    whole = start(*torchrun(processes=processes), *TRUE, "fit", *SMALL, "--trainer.default_root_dir=whole")
    ended(whole)
    process = start(
        *torchrun(*flags, processes=processes), *FAULTY, "fit", *SMALL, "--trainer.default_root_dir=cut",
        RANK_FAULT="1 kill 12",
    )  # fmt: skip
    out, err = ended(process)
    assert len(errors(err)) == 1
    assert out.count("from    ") == 1
    identical(only_run("whole"), only_run("cut"))


@pytest.mark.cluster
def test_a_refusal_of_one_rank_ends_all_with_its_line(start: Start) -> None:
    started = time.monotonic()
    process = start(*torchrun(), *FAULTY, "fit", *SMALL, RANK_FAULT="1 nodata 0")
    _, err = ended(process, exit_code=1, timeout=60)
    (line,) = errors(err)
    assert f"rank 1 on {socket.gethostname()}: no data on this node" in line
    first, second = by_hand(start, FAULTY, *SMALL, RANK_FAULT="3 nodata 0")
    _, err = ended(first, exit_code=3, timeout=60)
    assert len(errors(err)) == 1
    assert "rank 3 on" in err
    _, err = ended(second, exit_code=3, timeout=60)
    assert not err
    assert not list(Path().glob("lightning_logs/*/*")), "a run that never began has a folder"
    assert time.monotonic() - started < 120


@pytest.mark.cluster
def test_a_wrong_flag_is_said_once_under_torchrun(start: Start) -> None:
    _, err = ended(start(*torchrun(), *TRUE, "fit", *SMALL, "--trainer.max_epoch=1"), exit_code=1, timeout=60)
    assert errors(err) == ["error: unknown flag --trainer.max_epoch, did you mean '--trainer.max_epochs'?"]
    _, err = ended(start(*torchrun(), *TRUE, "fit", *SMALL, "--trainer.devices=3"), exit_code=1, timeout=60)
    (line,) = errors(err)
    assert line.startswith("error: torchrun has started 2 process(es) on 1 node(s): leave out --trainer.devices")


@pytest.mark.cluster
def test_ranks_with_another_checkpoint_are_refused(start: Start) -> None:
    ended(start(*TRUE, "fit", *SMALL))
    checkpoint = only_run() / "checkpoints" / "last.ckpt"
    other = Path("other.ckpt")
    shutil.copy(only_run() / "checkpoints" / "best.ckpt", other)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        start(*TRUE, "test", "--ckpt", str(path), CPU, "--trainer.num_nodes=2", **where, NODE_RANK=str(node))
        for node, path in enumerate((checkpoint, other))
    ]
    _, err = ended(processes[0], exit_code=4, timeout=60)
    assert len(errors(err)) == 1
    assert "differ in their checkpoint" in err
    assert ended(processes[1], exit_code=4, timeout=60) == ("", "")


@pytest.mark.cluster
def test_two_ranks_score_once_into_one_file(start: Start) -> None:
    ended(start(*TRUE, "fit", *SMALL))
    out, err = ended(start(*torchrun(), *TRUE, "test", "--ckpt", "last"))
    assert out.count("test    accuracy") == 1
    assert not err
    scored = json.loads((only_run() / "test.json").read_text())
    assert scored["accuracy"] == record_of(only_run())["metrics"]["test"]["accuracy"]


@pytest.mark.cluster
@pytest.mark.parametrize("node", [0, 1])
def test_a_rank_that_waits_for_the_others_can_be_stopped(start: Start, node: int) -> None:
    """Alone: rank 0 keeps the meeting place, rank 1 looks for it."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": str(node)}
    process = start(*TRUE, "fit", *SMALL, "--trainer.num_nodes=2", **where)
    time.sleep(15)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


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


def test_a_pipe_whose_reader_has_gone_saves_and_ends(start: Start) -> None:
    """As with `fit | head`."""
    process = start(*TRUE, "fit", *SMALL, "--trainer.max_epochs=500")
    assert process.stdout is not None
    assert process.stderr is not None
    while "epoch   1/500" not in process.stdout.readline():
        pass
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert "error: stopped " in process.stderr.read()
    assert record_of(only_run())["error"].startswith("Stopped: stopped ")


def test_a_pipe_whose_reader_has_gone_at_once_ends_it(start: Start) -> None:
    """As with `fit | head -1`, before anything is trained."""
    process = start(*TRUE, "fit", *SMALL)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert process.stderr.read() == "error: ended by SIGHUP\n"
    assert record_of(only_run())["status"] == "interrupted"


@pytest.mark.cluster
def test_a_run_goes_on_with_another_number_of_processes_and_says_so(start: Start) -> None:
    ended(start(*TRUE, "fit", *SMALL, "--trainer.max_epochs=1", "--final_test=false"))
    go_on = ["--ckpt=last", "--trainer.devices=2", "--trainer.max_epochs=2", "--final_test=true"]
    out, err = ended(start(*TRUE, "fit", *go_on))
    assert "2 x cpu" in out
    assert "devices 1 before, 2 now" in out + err
    assert record_of(only_run())["metrics"]["epochs"] == 2


@pytest.mark.cluster
def test_a_run_that_another_fit_trains_in_is_refused_on_all_ranks(start: Start) -> None:
    ended(start(*TRUE, "fit", *SMALL, "--trainer.max_epochs=1", "--final_test=false"))
    with in_use(only_run()):
        for program in ([], torchrun()):
            command = [*program, *TRUE, "fit", "--ckpt=last", "--trainer.max_epochs=2"]
            process = start(*command, *([] if program else ["--trainer.devices=2"]))
            _, err = ended(process, exit_code=1 if program else 6, timeout=60)
            (line,) = errors(err)
            assert "is in use by another fit" in line


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


@pytest.mark.cluster
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


@pytest.mark.cluster
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
