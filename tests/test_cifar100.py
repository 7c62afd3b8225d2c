"""CIFAR-100 from one flag to every place that counts classes, on noise images in its official format."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data.official_format import TinyDataset, tiny_cifar100
from torchvision.datasets import CIFAR100

from cifar_lightning.config.parser import Experiment
from cifar_lightning.data import download, layouts
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.data.transforms import CIFAR10_MEAN, CIFAR100_MEAN, CIFAR100_STD, Normalize
from cifar_lightning.errors import DataError
from cifar_lightning.inference import Predictor
from cifar_lightning.runs import figures

Run = Callable[..., tuple[int, str, str]]
Fit = Callable[..., tuple[Path, str]]

REAL_ROOT = os.environ.get("CIFAR100_ROOT")  # read before any test changes the environment
TINY = tiny_cifar100()
FLAG = "--data.dataset=cifar100"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TinyDataset:
    """200 + 100 noise images of 100 classes in $CIFAR100_ROOT."""
    monkeypatch.setitem(layouts.LAYOUTS, "cifar100", TINY.layout)
    monkeypatch.setenv("CIFAR100_ROOT", str(TINY.write_folder(tmp_path / "cifar100")))
    return TINY


def test_the_layout_is_torchvision_s() -> None:
    ours = layouts.CIFAR100
    assert dict(CIFAR100.train_list + CIFAR100.test_list) | {"meta": CIFAR100.meta["md5"]} == ours.files
    assert (ours.folder, ours.archive, ours.archive_md5) == (CIFAR100.base_folder, CIFAR100.filename, CIFAR100.tgz_md5)
    assert ours.mirrors[-1] == CIFAR100.url
    assert all(ours.archive in mirror for mirror in ours.mirrors)
    assert len(set(ours.class_names)) == 100
    assert list(ours.class_names) == sorted(ours.class_names)
    assert (ours.root_variable, ours.mirror_variable) == ("CIFAR100_ROOT", "CIFAR100_MIRROR")


def test_the_data_module_reads_fine_labels_and_normalises_by_its_own_statistics(tiny: TinyDataset) -> None:
    data = CIFAR10DataModule(dataset="cifar100", val_size=100, batch_size=10)
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    assert data.source == "CIFAR-100"
    assert data.class_names == layouts.CIFAR100_CLASS_NAMES
    assert data.sizes == {"train": 100, "val": 100, "test": 100}
    pixels, labels = data.images_of("test")
    assert labels.tolist() == list(range(100))
    images, _ = next(iter(data.test_dataloader()))
    assert torch.equal(images, Normalize("cifar100")(pixels).permute(0, 3, 1, 2))
    assert CIFAR10_MEAN != CIFAR100_MEAN


def test_from_fit_to_export(tiny: TinyDataset, fit: Fit, run: Run) -> None:
    folder, out = fit(FLAG, "--trainer.max_epochs=1")
    assert "data    CIFAR-100: 180 training and 20 validation images" in out
    assert re.search(r"^output +Linear +100 +900$", out, re.MULTILINE)  # 8 features in, weights and biases out
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["source"] == "CIFAR-100"
    assert record["config"]["data"]["dataset"] == "cifar100"
    assert record["config"]["model"]["net"]["init_args"]["num_classes"] == 100
    test = record["metrics"]["test"]
    assert list(test["per_class_accuracy"]) == list(layouts.CIFAR100_CLASS_NAMES)
    assert len(test["confusion_matrix"]) == 100
    exit_code, out, err = run("test", "--ckpt", "last")
    assert exit_code == 0, err
    assert "willow_tree" in out
    again = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    assert (again["source"], again["loss"]) == ("CIFAR-100", test["loss"])
    exit_code, out, err = run("predict", "--ckpt", "last", "--split", "test", "--top-k", "100", "--output", "all.json")
    assert exit_code == 0, err
    assert f"accuracy {test['accuracy']:.2%}" in out
    (first, *_) = json.loads(Path("all.json").read_text(encoding="utf-8"))["predictions"]
    assert first["label"] == "apple"
    assert run("predict", "--ckpt", "last", "--split", "test", "--top-k", "101")[::2] == (
        2, "error: --top-k must be from 1 to 100, got 101\n",
    )  # fmt: skip
    exit_code, out, err = run("export", "--ckpt", "last", "--format", "torch", "--output", "net.pt2")
    assert exit_code == 0, err
    predictor = Predictor.load("last")
    assert predictor.class_names == layouts.CIFAR100_CLASS_NAMES
    assert predictor.trained.source == "CIFAR-100"
    exported = torch.export.load("net.pt2").module()
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(exported(pixels), predictor.probabilities(pixels), atol=1e-3, rtol=0)


def test_a_run_goes_on_with_its_data_set_and_with_no_other(tiny: TinyDataset, fit: Fit, run: Run) -> None:
    folder, _ = fit(FLAG, "--trainer.max_epochs=1")
    assert run("fit", "--ckpt", "last", "--trainer.max_epochs=2")[0] == 0
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (record["metrics"]["epochs"], record["source"]) == (2, "CIFAR-100")
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.max_epochs=3", "--data.dataset=cifar10")
    assert (exit_code, err.count("\n")) == (2, 1)
    assert "data.dataset cannot change" in err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], 10),
        ([FLAG], 100),
        ([FLAG, "--model.net=ResNet18"], 100),
        ([FLAG, "--model.net.num_classes=7"], 7),  # refused by `fit`, which names both numbers
        ([FLAG, "--model.net=ResNet18", "--model.net.init_args.num_classes=7"], 7),
    ],
)
def test_the_net_s_outputs_come_from_the_data_set_where_nobody_says_otherwise(flags: list[str], expected: int) -> None:
    config: dict[str, Any] = Experiment("fit", flags).resolved()
    assert config["model"]["net"]["init_args"]["num_classes"] == expected


def test_without_data_and_network_there_is_no_sample(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR100_MIRROR", "http://127.0.0.1:9/")
    exit_code, out, err = run("fit", FLAG)
    assert (exit_code, err.splitlines()[-1][:7]) == (3, "error: ")
    last = err.splitlines()[-1]
    assert "CIFAR-100 is not in data/cifar-100-python" in last
    assert "$CIFAR100_ROOT" in last
    assert "sample" not in out + err
    assert not Path("lightning_logs").exists()


def test_the_sample_is_refused(run: Run) -> None:
    exit_code, _, err = run("fit", FLAG, "--data.source=sample")
    assert (exit_code, err.count("\n")) == (2, 1)
    assert "data.source sample is of CIFAR-10 alone" in err


def test_the_data_verb_unpacks_and_repairs(
    tiny: TinyDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run
) -> None:
    monkeypatch.setenv("CIFAR100_MIRROR", str(tiny.write_archive(tmp_path / "archive")))
    root = tmp_path / "new"
    exit_code, out, err = run("data", "--root", str(root), "--dataset", "cifar100")
    assert exit_code == 0, err
    assert out.startswith(f"CIFAR-100: 200 training and 100 test images in {root / 'cifar-100-python'} (3 files")
    assert sorted(path.name for path in (root / "cifar-100-python").iterdir()) == ["meta", "test", "train"]
    (root / "cifar-100-python" / "test").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"test is damaged .*data --root \S+ --dataset cifar100$"):
        download.verify(root, tiny.layout)
    assert run("data", "--root", str(root), "--data.dataset=cifar100")[0] == 0
    download.verify(root, tiny.layout)


@pytest.mark.draws
def test_a_confusion_of_100_classes_has_names_and_no_numbers() -> None:
    names = layouts.CIFAR100_CLASS_NAMES
    figure = figures.confusion(torch.eye(100, dtype=torch.int64).tolist(), names, "title")
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(names)
    assert not axes.texts


def test_the_real_statistics_and_names() -> None:
    """Only where the official files are: the constants come from other projects until somebody runs this."""
    if not REAL_ROOT:
        pytest.skip("needs the real CIFAR-100: set CIFAR100_ROOT to the folder that holds cifar-100-python")
    data = CIFAR100(REAL_ROOT, train=True)
    assert tuple(data.classes) == layouts.CIFAR100_CLASS_NAMES
    pixels = data.data.reshape(-1, 3) / 255
    assert tuple(pixels.mean(0).round(4)) == CIFAR100_MEAN
    assert tuple(pixels.std(0).round(4)) == CIFAR100_STD
