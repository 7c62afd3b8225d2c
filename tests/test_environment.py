"""The machine and the code under a run."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_lightning.runs import environment


@pytest.mark.parametrize(("bf16_s", "precision"), [(0.2, "bf16-mixed"), (0.9, "32-true"), (30.0, "32-true")])
def test_precision_of_a_cpu(bf16_s: float, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.bfloat16: bf16_s, torch.float32: 1.0}
    monkeypatch.setattr(environment, "_convolution_s", seconds.__getitem__)
    assert environment.native_precision("cpu") == precision


def test_bf16_by_name_only_is_not_chosen() -> None:
    threads = torch.get_num_threads()
    command = "from cifar_lightning.runs import environment as e; print(e.native_precision('cpu'))"
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    found = subprocess.run([sys.executable, "-c", command], env=limited, capture_output=True, text=True, check=True)
    assert found.stdout == "32-true\n" or platform.machine() not in ("x86_64", "AMD64")
    assert environment._convolution_s(torch.float32) > 0
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "32-true"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")]
)
def test_precision_of_a_gpu(capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert environment.native_precision("cuda") == precision


def test_hardware_and_versions_are_json_without_the_host_s_name() -> None:
    text = json.dumps({**environment.hardware("cpu"), **environment.versions()})
    assert torch.__version__.partition("+")[0] in text
    assert environment.hardware("cpu")["threads"] == torch.get_num_threads()


def test_a_gpu_is_named_only_where_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    assert "gpu" not in environment.hardware("cpu")
    assert environment.hardware("cuda")["gpu"] == "A GPU"


def test_commit_and_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    source = tmp_path / "package" / "runs" / "environment.py"
    source.parent.mkdir(parents=True)
    source.write_text("")
    monkeypatch.setattr(environment, "__file__", str(source))
    assert environment.commit() == {"commit": None, "dirty": None}  # no repository
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "somebody else's repository")
    assert environment.commit() == {"commit": None, "dirty": None}
    git("add", ".")
    git("commit", "-q", "-m", "ours")
    assert environment.commit() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run.json").write_text("what a run left behind")
    assert environment.commit()["dirty"] is False
    (tmp_path / "beside.py").write_text("code that is in no commit")
    assert environment.commit()["dirty"] is True
    (tmp_path / "beside.py").unlink()
    source.write_text("changed")
    assert environment.commit()["dirty"] is True


def test_the_results_that_do_not_count_are_those_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a repository that holds the project in a folder."""
    source = tmp_path / "project" / "package" / "runs" / "environment.py"
    source.parent.mkdir(parents=True)
    source.write_text("")
    monkeypatch.setattr(environment, "__file__", str(source))
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x@x.org", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    (tmp_path / "project" / "results").mkdir()
    (tmp_path / "project" / "results" / "run.json").write_text("what a run left behind")
    assert environment.commit()["dirty"] is False
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "code.py").write_text("somebody else's")
    assert environment.commit()["dirty"] is True


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        ({"cpu": "A CPU", "threads": 1}, "1 thread of A CPU"),
        ({"cpu": "A CPU", "threads": 2}, "2 threads of A CPU"),
        ({"cpu": "A CPU", "threads": 2, "gpu": "A GPU"}, "A GPU"),
    ],
)
def test_where_a_run_computed(hardware: dict[str, Any], said: str) -> None:
    assert environment.place(hardware) == said
