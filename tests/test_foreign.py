"""Nets from elsewhere: their flags, their classes, fine-tuning; and every verb on a run of one."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import TINY_TRAINING

from cifar_lightning.config.help import answered
from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError, DataError

Run = Callable[..., tuple[int, str, str]]
QUICK = [*TINY_TRAINING, "--trainer.precision=32-true", "--final_test=false"]


def experiment(*flags: str) -> Experiment:
    return Experiment("fit", list(flags))


def arguments_of(made: Experiment) -> dict[str, Any]:
    net = made.resolved()["model"]["net"]
    return {**(net.get("init_args") or {}), **(net.get("dict_kwargs") or {})}


@pytest.fixture
def squeezenet(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What the hub has for squeezenet1_1: a state of a thousand classes, all of it 0.5."""
    from torchvision.models import squeezenet1_1
    from torchvision.models._api import WeightsEnum

    state = {name: torch.full_like(value, 0.5) for name, value in squeezenet1_1().state_dict().items()}
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *arguments, **settings: state)
    return state


@pytest.mark.parametrize(
    ("flags", "expected", "is_told"),
    [
        (["torchvision.models.mobilenet_v2"], {"dropout": 0.2, "num_classes": 10}, True),
        (["torchvision.models.MobileNetV2"], {"dropout": 0.2, "num_classes": 10}, True),
        (
            ["torchvision.models.squeezenet1_1", "--model.net.num_classes=10"],
            {"num_classes": 10, "dropout": 0.5},
            False,
        ),
        (["foreign_nets.Small", "--model.net.width=6"], {"width": 6, "num_classes": 10}, True),
        (["foreign_nets.small", "--model.net.num_classes=10"], {"num_classes": 10, "width": 4}, False),
        (["SmallNet"], {"num_classes": 10}, False),
    ],
)
def test_a_net_starts_from_its_own_defaults_and_the_data_s_classes(
    flags: list[str], expected: dict[str, Any], is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "cifar_lightning.nets.report_cnn.ReportCNN" if flags[0] == "SmallNet" else flags[0]
    made = experiment("--model.net", name, *flags[1:])
    assert expected.items() <= arguments_of(made).items()
    assert ("num_classes 10, as the data have" in capsys.readouterr().out) == is_told
    assert made.model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_timm_by_functions_and_by_create_model(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    made = experiment("--model.net=timm.models.resnet.resnet10t", "--model.net.drop_rate", "0.1")
    assert arguments_of(made) == {"pretrained": False, "drop_rate": 0.1, "num_classes": 10}
    assert (made.model.net.drop_rate, made.model.net.fc.out_features) == (0.1, 10)
    (tmp_path / "again.yaml").write_text(made.resolved_yaml)
    assert arguments_of(experiment("--config", f"{tmp_path}/again.yaml")) == arguments_of(made)
    plain = "model: {net: {class_path: timm.models.resnet.resnet10t, init_args: {drop_rate: 0.1}}}"
    (tmp_path / "plain.yaml").write_text(plain)
    assert arguments_of(experiment("--config", f"{tmp_path}/plain.yaml")) == arguments_of(made)
    made = experiment("--model.net=timm.create_model", "--model.net.model_name=resnet10t", "--model.net.in_chans=3")
    assert made.model.net.fc.out_features == 10
    with pytest.raises(ConfigError, match="num_clases"):
        experiment("--model.net=timm.models.resnet.resnet10t", "--model.net.num_clases=10")


def test_without_timm_a_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs timm: install the extra with pip install -e '\.\[timm\]'"):
        experiment("--model.net=timm.create_model")


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("torchvision.models.mobilenet_v2", ["weights", "dropout", "num_classes"]),
        ("torchvision.models.MobileNetV2", ["dropout", "num_classes"]),
        ("torchvision.models.googlenet", ["weights", "aux_logits", "num_classes"]),  # a module has the same name
        ("foreign_nets.small", ["width"]),
        ("timm.models.resnet.resnet18", ["pretrained", "drop_rate", "num_classes"]),
    ],
)
@pytest.mark.parametrize("joint", [" ", "="])
def test_help_for_every_name(name: str, flags: list[str], joint: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    assert answered("fit", "", f"--model.net.help{joint}{name}".split())
    out = capsys.readouterr().out
    assert out.startswith(f"{name}:")
    assert all(f"--model.net.{flag} " in out for flag in flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["foreign_nets.Large"], "Large cannot take a 3x32x32 image: expected 64, got 32; --model.input_size"),
        (["foreign_nets.Several"], "Several gives a tuple in training, and not one tensor"),
        (["foreign_nets.Small", "--model.net.num_classes=7"], "the net gives 7 outputs, the data have 10 classes"),
        (["foreign_nets.Small", "--data.batch_size=13"], "of one image, as data.batch_size 13 makes of 40"),
        (
            ["foreign_nets.Small", "--data.batch_size=13", "--trainer.limit_train_batches=10"],
            "of one image, as data.batch",
        ),
        (["foreign_nets.Small", "--data.batch_size=1"], "of one image, as data.batch_size 1 makes of 40"),
        (
            ["foreign_nets.Small", "--data.batch_size=38", "--trainer.devices=2", "--trainer.accelerator=cpu"],
            "of one image for each of 2 devices, as data.batch_size 38 makes of 40",
        ),
        (["ReportCNN", "--data.augment.sizes=[32, 16]"], "data.augment.sizes: ReportCNN cannot take images of 16x16"),
        (["torchvision.models.squeezenet1_1", "--model.net.num_clases=10"], "did you mean 'model.net.num_classes'"),
        (
            ["torchvision.models.resnet18", "--model.net.weights=DEFAUL"],
            "expected IMAGENET1K_V1 or DEFAULT or null, got 'DEFAUL', did",
        ),
        (["torchvision.models.resnet81"], "module 'torchvision.models' has no attribute 'resnet81'"),
    ],
)
def test_a_net_that_cannot_train_is_a_line_and_leaves_no_folder(run: Run, flags: list[str], message: str) -> None:
    exit_code, _, err = run("fit", *QUICK, "--model.net", *flags)
    assert exit_code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(Path().glob("lightning_logs/*/*"))


def test_every_verb_on_a_fine_tuned_net(run: Run, squeezenet: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "torchvision.models.squeezenet1_1"
    exit_code, out, err = run(
        "fit", *QUICK, "--model.net", name, "--model.net.weights", "DEFAULT", "--model.input_size", "40",
        "--model.head_lr", "0.01", "--model.optimizer.lr", "0", "--model.freeze", "[features.0]",
        "--trainer.max_epochs=1",
    )  # fmt: skip
    assert exit_code == 0, err
    assert f"trained weights of {name}; from scratch: classifier.1.weight, classifier.1.bias" in out
    # The weights are in the checkpoint now, and nobody asks for the others again.
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", None)
    (last,) = Path("lightning_logs").glob("*/*/checkpoints/last.ckpt")
    state = torch.load(last, weights_only=True)["state_dict"]
    assert all(
        bool((state[f"net.{key}"] == value).all()) for key, value in squeezenet.items() if "classifier" not in key
    )
    assert state["net.classifier.1.weight"].shape == (10, 512, 1, 1)
    Image.new("RGB", (50, 40), "red").save("red.png")
    for verb in (
        ["test", "--ckpt", "last"], ["validate", "--ckpt"], ["predict", "red.png", "--ckpt", "last"],
        ["export", "--ckpt", "last", "--format", "torch", "--output", "net.pt2"],
        ["fit", "--ckpt", "last", "--trainer.max_epochs=2"],
    ):  # fmt: skip
        exit_code, out, err = run(*verb)
        assert (exit_code, "trained weights" in out) == (0, False), err


def test_a_run_of_a_net_of_the_user_s_own(run: Run) -> None:
    flags = ["--model.net", "foreign_nets.small", "--model.net.num_classes=10"]
    assert run("fit", *QUICK, *flags, "--trainer.max_epochs=1")[0] == 0
    exit_code, _, err = run("test", "--ckpt", "last")
    assert exit_code == 4
    assert "if you trust it, add --model.net foreign_nets.small" in err
    for verb in ("test", "fit"):
        exit_code, _, err = run(
            verb, "--ckpt", "last", *flags[:2], *(["--trainer.max_epochs=2"] if verb == "fit" else [])
        )
        assert exit_code == 0, err


def test_trained_weights_without_a_network_or_for_another_net(
    squeezenet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--model.net=torchvision.models.squeezenet1_1", "--model.net.weights=DEFAULT"]
    squeezenet["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    with pytest.raises(
        DataError, match=r"the trained weights of torchvision.models.squeezenet1_1 cannot be had: .*size"
    ):
        experiment(*flags)

    def offline(*arguments: Any, **settings: Any) -> None:
        raise OSError("<urlopen error Name or service not known>")

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", offline)
    with pytest.raises(DataError, match="cannot be had: <urlopen error Name or service not known>; without them"):
        experiment(*flags)


def test_the_commands_of_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    from torchvision.models import resnet18
    from torchvision.models._api import WeightsEnum

    state = resnet18().state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *arguments, **settings: state)
    text = (Path(__file__).parent.parent / "docs" / "nets.md").read_text(encoding="utf-8")
    commands = text.partition("<!-- nets -->")[2].partition("<!-- end of nets -->")[0].strip("\n`").splitlines()
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)
        assert words[:4] == ["python", "-m", "cifar_lightning", "fit"]
        made = experiment(*words[4:])
        assert made.model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
