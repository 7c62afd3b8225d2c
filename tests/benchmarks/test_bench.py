"""The benchmark `bench`: its flags and its JSON; and the list of benchmarks."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import TINY
from tiny import TINY_FLAGS

from benchmarks import data_path, matrix, startup, step, workbench
from benchmarks.__main__ import BENCHMARKS
from benchmarks.figures import FIGURES
from benchmarks.workbench import Workbench
from cifar_lightning.errors import UserError

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


def test_the_list_names_every_benchmark(benchmark: Run) -> None:
    exit_code, out, err = benchmark()
    assert (exit_code, err) == (0, "")
    assert all(f"\n  {name} " in out for name in BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_its_help(benchmark: Run, name: str) -> None:
    exit_code, out, _ = benchmark(name, "--help")
    assert exit_code == 0
    assert out.startswith(f"usage: python -m benchmarks {name} [")


def test_an_unknown_benchmark(benchmark: Run) -> None:
    exit_code, out, err = benchmark("bensh")
    assert (exit_code, out) == (2, "")
    assert err.startswith("error: unknown benchmark 'bensh', did you mean 'bench'?")
    assert err.count("\n") == 1


def test_the_json_holds_everything(benchmark: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "QUICK", TINY)
    monkeypatch.setattr(matrix, "SHAPES", ((8, 8, 8), (16, 8, 8)))
    monkeypatch.setattr(matrix, "ROUND_S", 1e-5)
    monkeypatch.setattr(startup, "FIT", (*startup.FIT, *TINY_FLAGS, "--data.source=sample"))
    monkeypatch.setattr(step, "OVERHEAD_BATCH_SIZE", 8)
    monkeypatch.setattr(step, "OVERHEAD_WARMUP_STEPS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(Path.cwd()))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))  # a benchmark runs in the checkout, this one elsewhere
    monkeypatch.setattr("sys.argv", ["__main__.py", "bench", "--quick", "--accelerator", "cpu"])
    exit_code, out, err = benchmark("bench", "--quick", "--accelerator", "cpu")
    assert exit_code == 0, err
    assert {line.partition(" ")[0] for line in err.splitlines()} == {"round"}, "nothing but where it stands"
    (path,) = Path("lightning_logs/bench").glob("*.json")
    assert [entry.name for entry in Path().iterdir()] == ["lightning_logs"], "something stayed behind"
    content = json.loads(path.read_text())
    assert content["quick"] is True
    assert content["command"] == "python -m benchmarks bench --quick --accelerator cpu"
    assert {"commit", "dirty", "versions", "hardware", "started_at", "precision", "effort"} < set(content)
    assert content["startup"]["ratio"]["values"][0] > 0
    assert content["startup"]["peak_memory_bytes"]["min"] > 2**20
    assert set(content["matrix"]) == {"fp32", "bf16"}
    assert set(content["matrix"]["fp32"]["shapes"]) == {"8x8x8", "16x8x8"}
    assert set(content["data"]["images_per_s"]) == {"ours", "torchvision", "ours, not augmented", "ours, batch 30"}
    assert len(content["data"]["images_per_s"]["ours"]["values"]) == TINY.rounds
    assert set(content["training"]) == {"8"}
    assert len(content["training"]["8"]["images_per_s"]) == 5
    assert set(content["training"]["8"]["ratio"]) == set(content["training"]["8"]["images_per_s"]) - {"ours"}
    assert content["training"]["8"]["share_of_matrix_rate"]["median"] > 0
    assert 0 < content["profile"]["products"] < 1
    assert len(content["overhead"]["ours_us"]["values"]) == TINY.overhead_rounds
    for section, figures in FIGURES.items():
        for figure in figures(content[section]):
            assert f"\n{figure.line()}\n" in out


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (["--fast"], 2, "python -m benchmarks bench: error: unrecognized arguments: --fast"),
        (["--accelerator", "tpu"], 2, "invalid choice: 'tpu'"),
        (["--output", "."], 6, "error: --output . is a folder"),
        (["--output", "file/bench.json"], 6, "error: cannot make file for the results"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    benchmark: Run, arguments: list[str], exit_code: int, text: str
) -> None:
    Path("file").write_text("no folder")
    code, out, err = benchmark("bench", *arguments)
    assert (code, out) == (exit_code, "")
    assert text in err.splitlines()[-1]


def test_no_data_is_an_error_and_no_download(benchmark: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetched(*arguments: object, **settings: object) -> None:
        raise AssertionError("a benchmark tried to download")

    monkeypatch.setattr("cifar_lightning.data.download._fetch", fetched)
    for root in (str(tmp_path / "nowhere"), ""):
        monkeypatch.setenv("CIFAR10_ROOT", root)
        code, _, err = benchmark("bench", "--quick", "--output", "bench.json")
        assert code == 3
        assert "CIFAR-10 is not in" in err
        assert not list(Path().iterdir())


def test_no_gpu_is_an_error(benchmark: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert benchmark("bench", "--accelerator", "gpu")[0] == 2


def test_an_interrupted_benchmark_leaves_nothing(benchmark: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(bench: Workbench) -> dict[str, Any]:
        (bench.folder / "something").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(Path.cwd()))
    monkeypatch.setattr(startup, "measure", interrupted)
    code, _, err = benchmark("bench", "--output", "bench.json")
    assert code == 130
    assert err == "error: interrupted\n"
    assert not list(Path().iterdir())


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(UserError, match="failed with exit code 3: last words"):
        startup.run_to_end(["sh", "-c", "echo first; echo last words >&2; exit 3"])
    assert startup.run_to_end(["true"]) > 0


def test_workers_deliver_as_well(bench: Workbench) -> None:
    loader = data_path.plain_loader(bench, data_path.plain_dataset(bench, augmented=True), 8, workers=1, batches=20)
    sizes = [len(labels) for _, labels in loader]
    assert sizes == [8] * 20  # 160 images of a set of 60: it goes round
