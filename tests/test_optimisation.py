"""What the optimizer is made of, what is frozen, schedules that count batches, and the search for a rate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_nets
import pytest
import torch
from run_folders import only_run
from tiny import TINY_FLAGS

from cifar_lightning.classifier import Classifier
from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError
from cifar_lightning.optim.muon import MuonSGD, orthogonalise

Run = Callable[..., tuple[int, str, str]]
ONE_CYCLE = ["--model.scheduler=OneCycleLR", "--model.scheduler.max_lr=0.01"]


def classifier(**settings: Any) -> Classifier:
    return Classifier(foreign_nets.Small(num_classes=10), **settings)


def names_of(model: Classifier, parameters: list[torch.Tensor]) -> set[str]:
    return {name for name, parameter in model.net.named_parameters() if any(parameter is one for one in parameters)}


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {(0.1, 0.5): {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "fc.weight", "fc.bias"}}),
        (
            {"decay_vectors": False},
            {
                (0.1, 0.5): {"conv.weight", "fc.weight"},
                (0.1, 0.0): {"conv.bias", "norm.weight", "norm.bias", "fc.bias"},
            },
        ),
        (
            {"head_lr": 0.7},
            {
                (0.1, 0.5): {"conv.weight", "conv.bias", "norm.weight", "norm.bias"},
                (0.7, 0.5): {"fc.weight", "fc.bias"},
            },
        ),
        (
            {"head_lr": 0.7, "decay_vectors": False},
            {
                (0.1, 0.5): {"conv.weight"}, (0.1, 0.0): {"conv.bias", "norm.weight", "norm.bias"},
                (0.7, 0.5): {"fc.weight"}, (0.7, 0.0): {"fc.bias"},
            },
        ),
    ],
)  # fmt: skip
def test_rates_and_decays_of_the_parameters(settings: dict[str, Any], expected: dict[Any, set[str]]) -> None:
    model = classifier(optimizer=adamw, **settings)
    groups = model.build_optimizer().param_groups
    assert {(group["lr"], group["weight_decay"]): names_of(model, group["params"]) for group in groups} == expected
    assert groups[0]["lr"] == 0.1  # the curves show the first group's rate


def test_frozen_parts_keep_weights_and_statistics() -> None:
    model = classifier(
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1, weight_decay=0.5), freeze=["norm"]
    )
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    optimizer = model.train().build_optimizer()
    model(torch.randn(8, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    moved = {name for name, value in model.net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"conv.weight", "conv.bias", "fc.weight", "fc.bias"}
    with pytest.raises(ValueError, match="the net has no part 'nrom', did you mean 'norm'"):
        classifier(freeze=["nrom"])
    with pytest.raises(ValueError, match="leaves nothing to train"):
        classifier(freeze=["conv", "norm", "fc"])


def test_images_are_enlarged_on_their_way() -> None:
    large = Classifier(foreign_nets.Large(num_classes=10), input_size=64)
    assert large(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(ValueError, match="must be at least 1"):
        classifier(input_size=0)


def test_muon_never_decays_a_parameter_without_gradient() -> None:
    parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in ((4, 3, 2, 2), (4, 3), (4,))]
    unused = [torch.nn.Parameter(torch.ones(shape)) for shape in ((4, 3, 2, 2), (4, 3), (4,))]
    optimizer = MuonSGD([*parameters, *unused], weight_decay=0.5)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(bool((parameter == 1).all()) for parameter in unused)
    assert not any(bool((parameter == 1).all()) for parameter in parameters)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.optimizer=torch.optim.Muon"], "--model.optimizer MuonSGD takes a whole net"),
        (["--model.optimizer=MuonSGD", "--model.head_lr=0.1"], "MuonSGD has groups of its own"),
        ([*ONE_CYCLE, "--model.scheduler.total_steps=9", "--model.head_lr=0.1"], "OneCycleLR sets the rates of all"),
        (["--model.freeze=[conv9]"], "model.freeze: the net has no part 'conv9'"),
        (["--trainer.callbacks+=LearningRateFinder"], "python -m cifar_lightning find-lr"),
        (
            ["--model.optimizer.fused=true", "--trainer.gradient_clip_val=1", "--trainer.precision=16-mixed"],
            "trainer.gradient_clip_val: in 16-mixed",
        ),
    ],
)
def test_what_cannot_be_is_a_line(flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Experiment("fit", flags)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fused_optimizer_clips(fit: Callable[..., tuple[Path, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *given: norms.append(given[1]) or clip(*given))
    flags = ["--model.optimizer.fused=true", "--trainer.precision=bf16-mixed", "--trainer.gradient_clip_val=0.5"]
    fit(*flags, "--trainer.max_epochs=1")
    assert norms == [0.5] * 5


@pytest.mark.parametrize(("precision", "expected"), [("bf16-mixed", "medium"), ("32-true", "highest")])
def test_products_outside_of_autocast_are_as_exact_as_the_training(
    fit: Callable[..., tuple[Path, str]], monkeypatch: pytest.MonkeyPatch, precision: str, expected: str
) -> None:
    seen = list[str]()

    def noted(matrices: torch.Tensor, steps: int) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return orthogonalise(matrices, steps)

    monkeypatch.setattr("cifar_lightning.optim.muon.orthogonalise", noted)
    fit("--model.optimizer=MuonSGD", f"--trainer.precision={precision}", "--final_test=false")
    assert seen[-1] == expected, "before it begins, a first step is tried"
    assert torch.get_float32_matmul_precision() == "highest", "it stays for whatever comes next"


def test_one_cycle_steps_after_each_batch_and_tells_where_it_ends(run: Run) -> None:
    flags = [*TINY_FLAGS, *ONE_CYCLE, "--final_test=false"]
    exit_code, _, err = run("fit", *flags, "--model.scheduler.total_steps=9")
    assert (exit_code, err.count("\n")) == (2, 1)
    assert "OneCycleLR ends after 9 steps, and the training takes 10: give a new run" in err
    assert not list(Path("lightning_logs").glob("*/*"))
    exit_code, _, err = run("fit", *flags, "--model.scheduler.total_steps=10")
    assert (exit_code, err) == (0, "")
    state = torch.load(only_run() / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["lr_schedulers"][0]["last_epoch"] == 10
    exit_code, _, err = run("fit", "--ckpt", "last", "--trainer.max_epochs=3")
    assert exit_code == 2
    assert "OneCycleLR ends after 10 steps, and the training takes 15" in err
    assert err.count("\n") == 1


def test_groups_and_freezing_on_a_resume(run: Run) -> None:
    flags = [*TINY_FLAGS, "--final_test=false", "--model.head_lr=0.02", "--model.freeze=[conv1]"]
    assert run("fit", *flags, "--trainer.max_epochs=1")[0] == 0
    before = torch.load(only_run() / "checkpoints" / "last.ckpt", weights_only=True)
    exit_code, _, err = run("fit", "--ckpt", "last", "--model.head_lr=0.1", "--trainer.max_epochs=2")
    assert exit_code == 2
    assert "model.head_lr cannot change" in err
    more = ["--model.freeze=null", "--model.optimizer.lr=0.005", "--trainer.max_epochs=2"]
    exit_code, _, err = run("fit", "--ckpt", "last", *more)
    assert exit_code == 0, err
    after = torch.load(only_run() / "checkpoints" / "last.ckpt", weights_only=True)
    assert [group["lr"] for group in after["optimizer_states"][0]["param_groups"]] == [0.005, 0.02]
    key = "net.layers.conv1.0.weight"
    assert not torch.equal(before["state_dict"][key], after["state_dict"][key])


def test_weights_go_between_a_compiled_net_and_a_plain_one(tmp_path: Path) -> None:
    plain, compiled = classifier(), Classifier(foreign_nets.Compiled())
    assert "net.conv._orig_mod.weight" in compiled.state_dict()
    for source, target in ((plain, compiled), (compiled, plain)):
        torch.nn.init.normal_(source.net.fc.weight)
        torch.nn.init.normal_(source.net.conv.weight)
        target.load_state_dict(source.state_dict())
        pairs = zip(source.state_dict().values(), target.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_find_lr_draws_and_proposes(run: Run) -> None:
    exit_code, out, err = run("find-lr", *TINY_FLAGS, "--trainer.max_epochs=1")
    assert exit_code == 0, err
    assert "fit --model.optimizer.lr " in out
    assert Path("find-lr.png").stat().st_size > 1000
    assert not list(Path("lightning_logs").iterdir())
    exit_code, _, err = run("find-lr", *TINY_FLAGS, "--model.head_lr=0.5")
    assert exit_code == 2
    assert "find-lr proposes one rate for all parameters, and this optimizer has several: 0.001, 0.5" in err
