"""What is set for training on a CPU, in processes that start with nothing set."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_lightning import process
from cifar_lightning.cli import main

# Page faults of taking and giving back 16 MiB a second time, as the tensors of each step do.
FAULTS = """
import resource, sys
from cifar_lightning import process
if sys.argv[1] == "kept":
    process.keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(2**24)
    block[::4096] = b"x" * len(block[::4096])
    del block
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def page_faults(mode: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True).stdout)


THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is nothing to set in another C library")
@pytest.mark.skipif(THP.is_file() and "[always]" in THP.read_text(), reason="the kernel gives huge pages by itself")
def test_freed_memory_is_there_for_the_next_step() -> None:
    pages = 2**24 // 4096
    assert page_faults("as it is") > pages // 2  # else this test shows nothing
    assert page_faults("kept") < pages // 20


SETTINGS = """
import os
from cifar_lightning import process
process.keep_freed_memory()
process.skip_gpu_search()
print(os.environ.get("THP_MEM_ALLOC_ENABLE"), repr(os.environ["CUDA_VISIBLE_DEVICES"]))
"""


@pytest.mark.parametrize(("set_before", "expected"), [({}, "''"), ({"CUDA_VISIBLE_DEVICES": "3"}, "'3'")])
def test_what_the_user_has_set_stays(set_before: dict[str, str], expected: str) -> None:
    names = ("CUDA_VISIBLE_DEVICES", "THP_MEM_ALLOC_ENABLE")
    environment = {name: value for name, value in os.environ.items() if name not in names} | set_before
    command = [sys.executable, "-c", SETTINGS]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.split()[1] == expected
    assert out.split()[0] == ("1" if platform.libc_ver()[0] == "glibc" else "None")


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip
JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_NNODES": "2"}
STEP = JOB | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}
SHELL = JOB | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}


@pytest.mark.parametrize(
    ("variables", "launcher", "rank", "has_peers"),
    [
        ({}, None, 0, False),
        (TORCHRUN, process.Launcher("torchrun", 3, 4, 2), 3, True),
        (TORCHRUN | STEP, process.Launcher("torchrun", 3, 4, 2), 3, True),  # torchrun within a task
        (STEP, process.Launcher("srun", 3, 4, 2), 3, True),
        (JOB, None, 0, False),  # sbatch's script
        (SHELL, None, 0, False),  # salloc's
        ({"NODE_RANK": "0"}, None, 0, True),
        ({"NODE_RANK": "1"}, None, 1, True),
        ({"NODE_RANK": "1", "LOCAL_RANK": "1", process.PER_NODE: "2"}, None, 3, True),
        ({"LOCAL_RANK": "1"}, None, 1, True),
    ],
)
def test_the_rank_is_known_from_who_started_the_process(
    variables: dict[str, str], launcher: process.Launcher | None, rank: int, has_peers: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in (*TORCHRUN, *STEP, "NODE_RANK", process.PER_NODE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert process.launcher() == launcher
    assert process.rank() == rank
    assert process.is_rank_zero() == (rank == 0)
    assert process.has_peers() == has_peers


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NODE_RANK": "x"}, "NODE_RANK is 'x'"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1'"),
        ({"TORCHELASTIC_RUN_ID": "1"}, "RANK is not set"),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}, "SLURM_PROCID is not set"),
    ],
)
def test_what_is_left_of_a_launcher_s_variables_is_one_line(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*TORCHRUN, *STEP, "NODE_RANK", process.PER_NODE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["fit"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: the environment variable {message}")
