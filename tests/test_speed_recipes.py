"""The speed recipes' way through `fit`: whitening at the first step alone, what is timed, TTA, the configs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cifar_lightning.classifier import Classifier
from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.nets.speed_net import SpeedNet, Whitening
from cifar_lightning.training.callbacks.compile_warmup import CompileWarmup
from cifar_lightning.training.callbacks.learning_curves import LearningCurves
from cifar_lightning.training.callbacks.timer import RunTimer

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = ["--data.val_size=20", "--data.batch_size=8", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
SPEED = [
    *SMALL, "--model.net=SpeedNet", "--model.net.widths=[4,4]", "--model.optimizer=MuonSGD",
    "--model.optimizer.lr=0.1", "--model.scheduler=TriangularLR",
]  # fmt: skip


def trained(run: Run, *flags: str) -> Path:
    exit_code, _, err = run("fit", *flags)
    assert exit_code == 0, err
    return max(Path("lightning_logs").glob("*/*"), key=lambda folder: folder.stat().st_mtime_ns)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def before_each_batch(context: pytest.MonkeyPatch, call: Callable[[Classifier, Any], None]) -> None:
    """Has `call` see the model and the batch before the model's own hook does."""
    own = Classifier.on_train_batch_start

    def hook(self: Classifier, batch: Any, batch_idx: int) -> None:
        call(self, batch)
        own(self, batch, batch_idx)

    context.setattr(Classifier, "on_train_batch_start", hook)


def test_the_whitening_is_that_of_the_first_batch_and_stays_on_a_resume(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    before_each_batch(monkeypatch, lambda model, batch: seen.append(batch[0].clone()))
    folder = trained(run, *SPEED, "--trainer.max_epochs=1")
    expected = Whitening(12, 2, 1, 0, bias=False)
    expected.start_from_images(seen[0])
    found = weights(folder)["net.layers.stem.0.weight"]
    torch.testing.assert_close(found, expected.weight)
    exit_code, _, err = run("fit", "--ckpt", str(folder / "checkpoints" / "last.ckpt"), "--trainer.max_epochs=2")
    assert exit_code == 0, err
    assert torch.equal(weights(folder)["net.layers.stem.0.weight"], found)


def test_a_recipe_that_was_cut_goes_on_bit_for_bit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [*SPEED, "--trainer.max_steps=9", "--data.augment.flip=alternating", "--model.label_smoothing=0.2"]
    whole = weights(trained(run, *flags))

    def kill_at_step_7(model: Classifier, batch: Any) -> None:
        if model.global_step == 7:
            raise KeyboardInterrupt("as if by kill -9: no callback may save")

    with monkeypatch.context() as context:
        context.setattr("cifar_lightning.training.callbacks.checkpoint.SAVE_EVERY_S", 0.0)
        before_each_batch(context, kill_at_step_7)
        assert run("fit", *flags, "--trainer.default_root_dir=cut")[0] == 130
    (folder,) = Path("cut").glob("*/*")
    last = folder / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 7
    exit_code, _, err = run("fit", "--ckpt", str(last))
    assert exit_code == 0, err
    assert weights(folder).keys() == whole.keys()
    assert all(torch.equal(value, whole[name]) for name, value in weights(folder).items())


def test_the_time_from_the_first_step_to_the_score(run: Run) -> None:
    folder = trained(run, *SPEED, "--trainer.max_epochs=2")
    speed = json.loads((folder / "run.json").read_text(encoding="utf-8"))["speed"]
    assert speed.keys() == {"train_s", "evaluation_s", "total_s"}
    assert 0 < speed["train_s"] < speed["total_s"] < 60
    assert speed["total_s"] == pytest.approx(speed["train_s"] + speed["evaluation_s"], abs=0.002)


def test_the_clock_starts_after_the_compilation_and_before_the_whitening(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def noted(owner: type, method: str, name: str) -> None:
        own = getattr(owner, method)

        def call(*arguments: Any) -> Any:
            order.append(name)
            return own(*arguments)

        monkeypatch.setattr(owner, method, call)

    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: None)
    noted(CompileWarmup, "on_train_start", "compilation")
    noted(RunTimer, "on_train_start", "start")
    noted(Whitening, "start_from_images", "whitening")
    noted(RunTimer, "on_train_epoch_end", "stop")
    noted(LearningCurves, "on_train_epoch_end", "curves")
    trained(run, *SPEED, "--trainer.max_epochs=1", "--model.compile=true")
    assert order == ["compilation", "start", "whitening", "stop", "curves"]


def test_a_resumed_run_has_no_time(run: Run) -> None:
    folder = trained(run, *SPEED, "--trainer.max_epochs=1")
    exit_code, out, err = run("fit", "--ckpt=last", "--trainer.max_epochs=2")
    assert exit_code == 0, err
    assert "speed" not in json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert "speed  " not in out


def test_tta_is_named_and_beside_the_plain_score(run: Run) -> None:
    exit_code, out, err = run("fit", *SPEED, "--trainer.max_epochs=1", "--model.tta.views=flip")
    assert exit_code == 0, err
    assert "TTA flip" in out
    (folder,) = Path("lightning_logs").glob("*/*")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["metrics"]["test_tta"]["views"] == "flip"
    assert record["metrics"]["test_tta"]["loss"] != record["metrics"]["test"]["loss"]
    assert record["speed"].keys() == {"train_s", "evaluation_s", "total_s", "evaluation_tta_s", "total_tta_s"}
    exit_code, out, err = run("test", "--ckpt")
    assert exit_code == 0, err
    assert "TTA flip" in out
    result = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    assert result["accuracy"] == record["metrics"]["test"]["accuracy"]
    assert result["tta"]["loss"] == pytest.approx(record["metrics"]["test_tta"]["loss"])
    exit_code, out, _ = run("test", "--ckpt", "--model.tta.views=none")
    assert exit_code == 0
    assert "TTA" not in out


def test_smoothing_is_the_trainings_alone() -> None:
    torch.manual_seed(0)
    model = Classifier(SpeedNet(widths=(4,)), label_smoothing=0.2)
    batch = (torch.randn(6, 3, 32, 32), torch.arange(6))
    model.net.start_from_images(batch[0])
    logits = model(batch[0])
    assert torch.equal(model.training_step(batch, 0), F.cross_entropy(logits, batch[1], label_smoothing=0.2))
    assert torch.equal(model.validation_step(batch, 0)["loss"], F.cross_entropy(logits, batch[1]))


def test_smoothing_of_mixed_labels_is_that_of_their_shares() -> None:
    torch.manual_seed(0)
    model = Classifier(ReportCNN(dropout=0.0), label_smoothing=0.2).eval()
    images, shares = torch.randn(4, 3, 32, 32), torch.rand(4, 10).softmax(dim=1)
    by_hand = -((0.8 * shares + 0.2 / 10) * model(images).log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(model.training_step((images, shares), 0), by_hand)
    assert model.train_metrics.compute()["accuracy"] == float(
        (model(images).argmax(1) == shares.argmax(1)).float().mean()
    )


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_smoothing_out_of_range_is_refused(run: Run, value: float) -> None:
    exit_code, _, err = run("fit", *SPEED, f"--model.label_smoothing={value}")
    assert exit_code == 2
    assert "label_smoothing" in err


def test_a_changed_rate_reaches_its_own_group_on_a_resume(run: Run) -> None:
    flags = [flag for flag in SPEED if "scheduler" not in flag]
    folder = trained(run, *flags, "--trainer.max_epochs=1")
    path = folder / "checkpoints" / "last.ckpt"
    exit_code, _, err = run("fit", "--ckpt", str(path), "--trainer.max_epochs=2", "--model.optimizer.dense_lr=0.01")
    assert exit_code == 0, err
    groups = torch.load(path, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == [0.1, 0.01, 0.05]


@pytest.mark.parametrize(
    "config", sorted([*(CONFIGS / "speed").glob("*.yaml"), CONFIGS / "resnet18.yaml"]), ids=lambda path: path.stem
)
def test_every_recipe_takes_its_first_steps_on_a_cpu(run: Run, config: Path) -> None:
    flags = [*SMALL, "--model.compile=false", "--trainer.max_steps=2", "--data.eval_batch_size=50"]
    folder = trained(run, "--config", str(config), *flags)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished"
    assert record["recipe"].startswith(config.stem)
    assert record["metrics"]["epochs"] == 1
    header = config.read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith("# ")
    assert f"--config configs/{config.relative_to(CONFIGS)}" in config.read_text(encoding="utf-8")
