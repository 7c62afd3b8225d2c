"""The tables in the documents: they say what the files under `results/` say."""

import json
from pathlib import Path
from typing import Any

import pytest
from finished_runs import record

from benchmarks import tables
from benchmarks.speed import summarise
from cifar_lightning.errors import ConfigError

PROJECT = Path(__file__).parents[2]


def test_every_document_has_the_tables_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    rendered: dict[Path, str] = {}
    monkeypatch.setattr(tables, "write_text", rendered.__setitem__)
    assert tables.main([]) == 0
    assert len(rendered) > 1
    for path, text in rendered.items():
        assert text == path.read_text(encoding="utf-8"), path


def test_every_table_needs_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    marks = [
        f"<!-- {name}: written by `python -m benchmarks tables` -->\n<!-- end of {name} -->" for name in tables.TABLES
    ]
    for wrong in (marks[1:], [*marks, marks[0]], [*marks, marks[0].replace("report", "another")]):
        Path("README.md").write_text("\n".join(wrong))
        with pytest.raises(ConfigError, match="needed, once each: guests, main, report, "):
            tables.main([])


def summary(*values: float) -> dict[str, Any]:
    return {"median": sorted(values)[len(values) // 2], "min": min(values), "max": max(values), "values": list(values)}


CONTENT: dict[str, Any] = {
    "command": "python -m benchmarks bench",
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
        "parts_us": {"NanGuard": 26.2, "metrics": 16.0},
        "fastest_us": {"trainer": 190.0, "ours": 45.0},
        "share_of_step": {"30": {"step_us": 15_000.0, "trainer": 0.0167, "ours": 0.004}},
    },
}


def bench_table(content: dict[str, Any], results: Path) -> str:
    (results / "bench.json").write_text(json.dumps(content), encoding="utf-8")
    return tables.bench_table(results)


def test_the_table_of_bench_says_what_its_file_says(tmp_path: Path) -> None:
    lines = bench_table(CONTENT, tmp_path).splitlines()
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
        "| overhead of a step, one-layer net, what `fit` adds to it | 60 µs | 50 µs to 70 µs | 3 | "
        "fastest rounds: 45 µs; of the CNN's step: 0.4% at batch 30; of it in our code: NanGuard 26 µs, metrics 16 µs "
        "|  |"
    ) in lines
    assert (
        "| matrix products' share of the step's time, batch 128 | 60% | 60% to 60% | 1 | "
        "beside them: copy_ 25%, the rest 15% |  |"
    ) in lines
    assert not any("GPU" in line for line in lines)
    assert lines[-1] == (
        "2 threads of A CPU; precision bf16-mixed; python 3.13.0, torch 2.99.0, torchvision 0.99.0, lightning 2.99.0; "
        "commit 0123456; 2030-01-02; `python -m benchmarks bench`. "
        "A ratio is the median of the rounds' own ratios."
    )


def test_a_gpu_is_named_where_it_was_measured(tmp_path: Path) -> None:
    hardware = {**CONTENT["hardware"], "gpu": "A GPU"}
    startup_figures = {**CONTENT["startup"], "peak_gpu_memory_bytes": summary(2.0**20)}
    content = {**CONTENT, "hardware": hardware, "dirty": True, "quick": True, "startup": startup_figures}
    del content["profile"]
    text = bench_table(content, tmp_path)
    assert "\nA GPU, 2 threads of A CPU;" in text
    assert "commit 0123456 with changes" in text
    assert text.endswith("A quick run: no figure to build on.")
    assert "| peak GPU memory of that `fit` | 1 MiB |" in text


@pytest.mark.parametrize(
    ("rival", "tta", "said"),
    [
        ({}, 0.79, "300 s, 27 times as long |"),
        ({"evaluation_s": 9.0}, 0.79, "300 s, 25 times as long as with TTA |"),
        ({"evaluation_s": 9.0}, None, "300 s, 27 times as long |"),
        ({"total_s": 30.0}, None, "30 s, 2.73 times as long |"),
    ],
)
def test_the_table_says_which_time_a_rival_is_compared_with(
    tmp_path: Path, rival: dict[str, Any], tta: float | None, said: str
) -> None:
    rounds = [
        {"name": "another", "timed": "all", "precision": precision, "total_s": 300.0, **rival}
        for precision in ("bf16", "float32")
    ]
    result = summarise([record(0, 0.78, 10.0, tta), record(1, 0.80, 10.0, tta and tta + 0.01)], rounds)
    result |= {"hardware": {"threads": 2, "cpu": "a CPU"}, "precision": "32-true"}
    (tmp_path / "speed_x.json").write_text(json.dumps(result))
    (tmp_path / "flops.json").write_text(json.dumps({"recipes": [{"config": "configs/speed/x.yaml", "total": 1e15}]}))
    assert tables.speed_table(tmp_path).count(said) == 2
