"""A run of the package before it was rearranged (commit c0ab886) still loads, is scored alike and goes on."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cifar_lightning.inference import Predictor
from cifar_lightning.runs.record import read_record

PROJECT = Path(__file__).parents[1]
OLD_RUN = PROJECT / "tests" / "fixtures" / "old_run"
TEST_LOSS = 2.3098  # what `test --ckpt` of that commit printed
# The second epoch's row, written by that commit. Another CPU rounds otherwise.
SECOND_EPOCH = {"train_loss": 2.3035211588541666, "val_loss": 2.2715966796875}


def test_its_record_is_read() -> None:
    record = read_record(OLD_RUN)
    assert (record.recipe, record.seed, record.status, record.commit[:7]) == ("default", 0, "finished", "c0ab886")
    assert record.metrics["last_epoch"]["train_loss"] == 2.3211985677083335


def test_its_checkpoint_predicts() -> None:
    predictor = Predictor.load(str(OLD_RUN / "checkpoints" / "last.ckpt"))
    assert predictor.trained.epochs == 1
    probabilities = predictor.probabilities(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert probabilities.sum(1).tolist() == pytest.approx([1, 1])


@pytest.mark.slow
def test_it_is_scored_alike_and_goes_on(tmp_path: Path, real_root: str) -> None:
    folder = tmp_path / "lightning_logs/default/2026-11-26_15-32-32-s0"
    shutil.copytree(OLD_RUN, folder)
    environment = os.environ | {"CIFAR10_ROOT": real_root, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "cifar_lightning", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("test", "--ckpt", "last")
    assert json.loads((folder / "test.json").read_text())["loss"] == pytest.approx(TEST_LOSS, abs=1e-4)
    run("fit", "--ckpt", "last", "--trainer.max_epochs=2", "--final_test=false")
    first, second = csv.DictReader((folder / "metrics.csv").open())
    assert first == next(csv.DictReader((OLD_RUN / "metrics.csv").open()))
    assert {name: float(second[name]) for name in SECOND_EPOCH} == pytest.approx(SECOND_EPOCH, rel=1e-3)
