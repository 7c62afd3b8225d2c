"""The verb: its flags, its JSON and the README's table."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import TINY

from cifar_lightning.bench import command, data_path, effort, startup, table
from cifar_lightning.bench.workbench import Workbench
from cifar_lightning.errors import UserError

PROJECT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


def summary(*values: float) -> dict[str, Any]:
    return {"median": sorted(values)[len(values) // 2], "min": min(values), "max": max(values), "values": list(values)}


CONTENT: dict[str, Any] = {
    "command": "python -m cifar_lightning bench",
    "quick": False,
    "started_at": "2030-01-02T03:04:05+00:00",
    "commit": "0123456789abcdef",
    "dirty": False,
    "versions": {"python": "3.13.0", "torch": "2.99.0", "torchvision": "0.99.0", "lightning": "2.99.0"},
    "hardware": {"cpu": "A CPU", "threads": 2},
    "accelerator": "cpu",
    "precision": "bf16-mixed",
    "startup": {
        "fit_to_first_step_s": summary(6.0, 6.5, 7.0),
        "imports_s": summary(4.0, 5.0, 5.0),
        "ratio": summary(1.3, 1.4, 1.5),
        "read_data_s": summary(0.5, 0.5, 0.75),
        "peak_memory_bytes": summary(2.0**30, 2.0**30, 2.0**30),
        "peak_gpu_memory_bytes": summary(0.0, 0.0, 0.0),
    },
    "matrix": {
        "fp32": {"flop_per_s": 2e11, "shapes": {"8x8x8": summary(1e11, 2e11), "16x8x8": summary(1e10, 1e10)}},
        "bf16": {"flop_per_s": 1e12, "shapes": {"8x8x8": summary(1e12, 1e12)}},
    },
    "data": {
        "batch_size": 512,
        "images_per_s": {
            "ours": summary(90e3, 100e3, 110e3),
            "torchvision": summary(9e3, 10e3, 11e3),
            "ours, not augmented": summary(200e3, 200e3, 200e3),
        },
        "torchvision_workers": {"0": 5e3, "2": 10e3},
        "best_workers": 2,
        "ratio": summary(9.0, 10.0, 11.0),
    },
    "training": {
        "30": {
            "matrix": "bf16",
            "images_per_s": {"ours": summary(1900.0, 2000.0), "bare loop": summary(2000.0, 2000.0)},
            "ratio": {"bare loop": summary(0.95, 1.0)},
            "flop_per_s": summary(3.2e11, 3.4e11),
            "matrix_rate": 1e12,
            "share_of_matrix_rate": summary(0.32, 0.34),
        }
    },
    "profile": {
        "batch_size": 128,
        "operators": {"aten::mkldnn_convolution": 0.5, "aten::copy_": 0.25, "the rest": 0.25},
        "products": 0.6,
    },
    "overhead": {
        "trainer_us": summary(200.0, 250.0, 300.0),
        "ours_us": summary(50.0, 60.0, 70.0),
        "fastest_us": {"trainer": 190.0, "ours": 45.0},
        "share_of_step": {"30": {"step_us": 15_000.0, "trainer": 0.0167, "ours": 0.004}},
    },
}


def test_the_json_holds_everything_and_its_table_goes_into_the_readme(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "QUICK", TINY)
    monkeypatch.setattr(tempfile, "tempdir", str(Path.cwd()))
    exit_code, out, err = run("bench", "--quick", "--accelerator", "cpu")
    assert (exit_code, err) == (0, "")
    (path,) = Path("lightning_logs/bench").glob("*.json")
    assert [entry.name for entry in Path().iterdir()] == ["lightning_logs"], "something stayed behind"
    content = json.loads(path.read_text())
    assert content["quick"] is True
    assert content["command"] == "python -m cifar_lightning bench --quick --accelerator cpu"
    assert {"commit", "dirty", "versions", "hardware", "started_at", "precision", "effort"} < set(content)
    assert content["startup"]["ratio"]["values"][0] > 0
    assert content["startup"]["peak_memory_bytes"]["min"] > 2**20
    assert set(content["matrix"]) == {"fp32", "bf16"}
    assert set(content["data"]["images_per_s"]) == {"ours", "torchvision", "ours, not augmented", "ours, batch 30"}
    assert len(content["data"]["images_per_s"]["ours"]["values"]) == TINY.data_rounds
    assert set(content["training"]) == {"8"}
    assert len(content["training"]["8"]["images_per_s"]) == 5
    assert set(content["training"]["8"]["ratio"]) == set(content["training"]["8"]["images_per_s"]) - {"ours"}
    assert content["training"]["8"]["share_of_matrix_rate"]["median"] > 0
    assert len(content["overhead"]["ours_us"]["values"]) == TINY.overhead_rounds
    for section in table.SECTIONS:
        for figure in table.figures(section, content[section]):
            assert f"\n{table.line(figure)}\n" in out
    Path("README.md").write_text(f"before\n{table.BEGIN}\nyesterday\n{table.END}\nafter\n", encoding="utf-8")
    assert run("bench", "--readme", str(path))[0] == 0
    first = Path("README.md").read_text(encoding="utf-8")
    assert table.render_table(content) in first
    assert "A quick run" in first
    assert "yesterday" not in first
    assert run("bench", "--readme", str(path))[0] == 0
    assert Path("README.md").read_text(encoding="utf-8") == first


def test_the_table_says_what_the_file_says() -> None:
    lines = table.render_table(CONTENT).splitlines()
    assert lines[2] == (
        "| `fit`, command to end of first step | 6.50 s | 6.00 s to 7.00 s | 3 | "
        "importing torch, torchvision, lightning: 5.00 s | 1.40 (1.30 to 1.50) |"
    )
    assert "| peak memory of that `fit` | 1,024 MiB | 1,024 MiB to 1,024 MiB | 3 |  |  |" in lines
    assert (
        "| matrix product, fp32, best shape 8x8x8 | 200.0 GFLOP/s | 100.0 GFLOP/s to 200.0 GFLOP/s | 2 |  |  |" in lines
    )
    assert (
        "| data path, crop and flip, batch 512 | 100,000 images/s | 90,000 images/s to 110,000 images/s | 3 | "
        "torchvision, 2 workers: 10,000 images/s | 10.00 (9.00 to 11.00) |"
    ) in lines
    assert (
        "| overhead of a step, one-layer net, the Trainer's loop | 250 µs | 200 µs to 300 µs | 3 | "
        "fastest rounds: 190 µs; of the CNN's step: 1.7% at batch 30 |  |"
    ) in lines
    assert (
        "| matrix products' share of the step's time, batch 128 | 60% | 60% to 60% | 1 | "
        "beside them: copy_ 25%, the rest 15% |  |"
    ) in lines
    assert not any("GPU" in line for line in lines)
    assert lines[-1] == (
        "2 threads of A CPU; precision bf16-mixed; python 3.13.0, torch 2.99.0, torchvision 0.99.0, lightning 2.99.0; "
        "commit 0123456; 2030-01-02; `python -m cifar_lightning bench`. "
        "A ratio is the median of the rounds' own ratios."
    )


def test_a_gpu_is_named_where_it_was_measured() -> None:
    hardware = {**CONTENT["hardware"], "gpu": "A GPU"}
    startup_figures = {**CONTENT["startup"], "peak_gpu_memory_bytes": summary(2.0**20)}
    content = {**CONTENT, "hardware": hardware, "dirty": True, "startup": startup_figures}
    text = table.render_table(content)
    assert "\nA GPU, 2 threads of A CPU;" in text
    assert "commit 0123456 with changes" in text
    assert "| peak GPU memory of that `fit` | 1 MiB |" in text


def test_the_readme_has_a_place_for_the_table() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert readme.count(table.BEGIN) == readme.count(table.END) == 1
    recorded = PROJECT / "results" / "bench.json"
    if recorded.is_file():
        rendered = table.render_table(json.loads(recorded.read_text(encoding="utf-8")))
        assert f"{table.BEGIN}\n{rendered}\n{table.END}" in readme


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (["--fast"], 2, "bench: unrecognized arguments: --fast; see python -m cifar_lightning bench --help"),
        (["--accelerator", "tpu"], 2, "invalid choice: 'tpu'"),
        (["--output", "."], 6, "--output . is a folder"),
        (["--output", "file/bench.json"], 6, "cannot make file for the results"),
        (["--readme", "nowhere.json"], 6, "nowhere.json cannot be read"),
        (["--readme", "file"], 2, "--readme file is not what `bench` writes"),
        (["--readme", "half.json"], 2, "--readme half.json is not what `bench` writes: KeyError: 'startup'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    run: Run, arguments: list[str], exit_code: int, text: str
) -> None:
    Path("file").write_text("no JSON")
    Path("half.json").write_text("{}")
    code, out, err = run("bench", *arguments)
    assert (code, out) == (exit_code, "")
    assert text in err
    assert err.count("\n") == 1


def test_no_data_is_an_error_and_no_download(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetched(*arguments: object, **settings: object) -> None:
        raise AssertionError("a benchmark tried to download")

    monkeypatch.setattr("cifar_lightning.data.download._fetch", fetched)
    for root in (str(tmp_path / "nowhere"), ""):
        monkeypatch.setenv("CIFAR10_ROOT", root)
        code, _, err = run("bench", "--quick", "--output", "bench.json")
        assert code == 3
        assert "CIFAR-10 is not in" in err
        assert not list(Path().iterdir())


def test_no_gpu_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert run("bench", "--accelerator", "gpu")[0] == 2


def test_an_interrupted_benchmark_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(bench: Workbench) -> dict[str, Any]:
        (bench.folder / "something").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(Path.cwd()))
    monkeypatch.setattr(command.startup, "measure", interrupted)
    code, _, err = run("bench", "--output", "bench.json")
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
