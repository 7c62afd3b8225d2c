"""The machine and the code under a run."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_lightning.runs import environment


@pytest.mark.parametrize(
    ("features", "is_intel", "precision"),
    [
        ({"avx2", "avx512_f", "avx512_bf16"}, False, "bf16-mixed"),
        ({"avx2", "avx512_f", "avx512_bf16"}, True, "32-true"),
        ({"avx2", "avx512_f", "avx512_bf16", "amx_bf16"}, True, "bf16-mixed"),
        ({"avx2", "avx512_f"}, False, "32-true"),
        (set(), True, "32-true"),
    ],
)
def test_precision_of_a_cpu(
    features: set[str], is_intel: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_cpu_features", lambda: features)
    monkeypatch.setattr(environment, "_is_intel", lambda: is_intel)
    assert environment.native_precision("cpu") == precision


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "32-true"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")]
)
def test_precision_of_a_gpu(capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert environment.native_precision("cuda") == precision


def test_the_features_are_those_that_the_system_names() -> None:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        pytest.skip("only Linux lists its CPU's features in a file")
    assert ("avx512_bf16" in environment._cpu_features()) == ("avx512_bf16" in flags)
    assert environment._is_intel() == ("GenuineIntel" in flags)


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
