"""Averaged weights, by Lightning's own callback: they are validated, saved and tested, and a resume is exact."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_lightning.classifier import Classifier

Run = Callable[..., tuple[int, str, str]]

FLAGS = [
    "--data.val_size=20", "--data.batch_size=8", "--trainer.accelerator=cpu", "--trainer.precision=32-true",
    "--model.net.channels=[4,4,8]", "--model.net.hidden_features=[8,8]", "--trainer.max_epochs=2",
    "--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9",
]  # fmt: skip


def checkpoint(logs: str) -> dict[str, Any]:
    (path,) = Path(logs).glob("*/*/checkpoints/last.ckpt")
    return torch.load(path, weights_only=True)


def test_the_average_is_saved_beside_the_weights(run: Run) -> None:
    exit_code, _, err = run("fit", *FLAGS, "--trainer.default_root_dir=whole")
    assert exit_code == 0, err
    saved = checkpoint("whole")
    assert saved["state_dict"].keys() == saved["current_model_state"].keys()
    name = "net.layers.output.weight"
    assert not torch.equal(saved["state_dict"][name], saved["current_model_state"][name])


def test_an_averaged_run_that_was_cut_goes_on_bit_for_bit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("fit", *FLAGS, "--trainer.default_root_dir=whole")[0] == 0

    def kill(self: Classifier, *arguments: Any) -> None:
        if self.global_step == 7:
            raise KeyboardInterrupt("as if by kill -9: no callback may save")

    with monkeypatch.context() as context:
        context.setattr("cifar_lightning.training.callbacks.checkpoint.SAVE_EVERY_S", 0.0)
        context.setattr(Classifier, "on_train_batch_start", kill)
        assert run("fit", *FLAGS, "--trainer.default_root_dir=cut")[0] == 130
    (last,) = Path("cut").glob("*/*/checkpoints/last.ckpt")
    exit_code, _, err = run("fit", "--ckpt", str(last))
    assert exit_code == 0, err
    whole, cut = checkpoint("whole"), checkpoint("cut")
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, whole[part][name]) for name, value in cut[part].items())


def test_the_validation_scores_the_average(run: Run) -> None:
    exit_code, _, err = run("fit", *FLAGS, "--trainer.default_root_dir=whole")
    assert exit_code == 0, err
    (record,) = Path("whole").glob("*/*/run.json")
    in_fit = json.loads(record.read_text())["metrics"]["last_epoch"]
    exit_code, _, err = run("validate", "--ckpt", "--trainer.default_root_dir=whole", "--trainer.callbacks=null")
    assert exit_code == 0, err
    alone = json.loads(record.with_name("validate.json").read_text())
    assert alone["loss"] == pytest.approx(in_fit["val_loss"], rel=1e-5)


def test_the_test_scores_the_average(run: Run) -> None:
    exit_code, out, err = run("fit", *FLAGS, "--trainer.default_root_dir=whole")
    assert exit_code == 0, err
    (in_fit,) = [line for line in out.splitlines() if line.startswith("test ")]
    exit_code, out, err = run("test", "--ckpt", "--trainer.default_root_dir=whole", "--trainer.callbacks=null")
    assert exit_code == 0, err
    (alone,) = [line for line in out.splitlines() if line.startswith("test ")]
    assert alone.split("(")[0] == in_fit.split("(")[0]
