"""From flags, YAML and checkpoints to settings: what is accepted, and the one line for what is not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tiny import TINY_FLAGS, TINY_TRAINING

from cifar_lightning.config.help import answered
from cifar_lightning.config.invocation import Invocation, values_of
from cifar_lightning.config.parser import Experiment
from cifar_lightning.config.recipes import find_recipe
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.errors import ConfigError
from cifar_lightning.nets.report_cnn import ReportCNN

CONFIGS = sorted(
    path
    for path in (Path(__file__).parent.parent / "configs").glob("**/*.yaml")
    # What `study` and `search` read has tests of its own.
    if path.name != "study.yaml" and path.parent.name != "search"
)

# How the complaints begin that need no more than names and files.
EARLY = ("unknown flag", "--config", "ckpt is a flag", "unknown setting trai", "unknown setting data")


class OtherNet(torch.nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(3, width)


def experiment(*arguments: str) -> Experiment:
    return Experiment("fit", list(arguments))


def test_the_defaults_are_the_report_s_final_model() -> None:
    made = experiment()
    net = made.model.net
    assert isinstance(net, ReportCNN)
    assert [layer.out_channels for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)] == [32, 64, 128]
    optimizer = made.model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert made.datamodule.batch_size == 30
    assert made.datamodule.val_size == 5000
    assert made.config.trainer.max_epochs == 30


def test_flags_reach_net_optimizer_scheduler_and_data() -> None:
    made = experiment(
        "--model.net.dropout=0", "--model.optimizer=SGD", "--model.optimizer.lr=0.1",
        "--model.scheduler=StepLR", "--model.scheduler.step_size=2", "--data.batch_size=64", "--seed_everything=7",
    )  # fmt: skip
    assert {layer.p for layer in made.model.net.modules() if isinstance(layer, torch.nn.Dropout)} == {0.0}
    optimization = made.model.configure_optimizers()
    assert isinstance(optimization, dict)
    assert isinstance(optimization["optimizer"], torch.optim.SGD)
    assert optimization["optimizer"].param_groups[0]["lr"] == 0.1
    assert optimization["lr_scheduler"]["scheduler"].step_size == 2
    assert optimization["lr_scheduler"]["interval"] == "epoch"
    assert made.datamodule.batch_size == 64
    assert made.datamodule.seed == made.seed == 7


def test_augmentation_by_flags_and_by_file_reaches_the_data(tmp_path: Path) -> None:
    expected = Augmentation(flip="alternating", crop_padding=2)
    made = experiment("--data.augment.flip", "alternating", "--data.augment.crop_padding", "2")
    assert made.datamodule.augment == expected
    (tmp_path / "one.yaml").write_text("data: {augment: {flip: random, crop_padding: 2}}\n")
    made = experiment("--config", f"{tmp_path}/one.yaml", "--data.augment.flip=alternating")
    assert made.datamodule.augment == expected
    (tmp_path / "config.yaml").write_text(made.resolved_yaml)
    assert experiment("--config", f"{tmp_path}/config.yaml").datamodule.augment == expected
    assert experiment().datamodule.augment == Augmentation()


def test_another_net_by_its_bare_name() -> None:
    made = experiment("--model.net", "OtherNet", "--model.net.width", "5")
    assert made.model.net.dense.out_features == 5


def test_files_merge_in_their_order_and_flags_win(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("data: {batch_size: 10, val_size: 100}\nseed_everything: 4\n")
    (tmp_path / "two.yaml").write_text("data: {batch_size: 20}\n")
    made = experiment("--config", f"{tmp_path}/one.yaml", "-c", f"{tmp_path}/two.yaml", "--data.val_size", "200")
    assert (made.datamodule.batch_size, made.datamodule.val_size, made.seed) == (20, 200, 4)
    first = experiment("--data.val_size", "200", "--config", f"{tmp_path}/one.yaml", "--data.batch_size=30")
    assert (first.datamodule.batch_size, first.datamodule.val_size) == (30, 200)  # flags win wherever they stand


@pytest.mark.parametrize(
    ("flags", "recipe"),
    [
        ([], "default"),
        (["--config=two.yaml", "--seed_everything", "3", "--data.root=x", "--final_test", "false"], "two"),
        (["--model.net", "cifar_lightning.nets.resnet.ResNet18"], "default-net=ResNet18"),
        (["--model.optimizer.lr=0.1", "--model.optimizer.lr", "0.2", "-c", "two.yaml"], "two-lr=0.2"),
        (["--trainer.callbacks+=a/b c", "--model.net.channels=[4, 4]"], "default-callbacks=abc-channels=4,4"),
        (["--data.batch_size=8", f"--trainer.profiler={'x' * 60}"], "default-batch_size=8-etc"),
    ],
)
def test_a_recipe_is_named_after_the_file_and_what_the_flags_change(
    flags: list[str], recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.yaml").write_text("data: {batch_size: 20}\n")
    assert Invocation.read(flags).recipe("default") == recipe


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cpu78", "speed/cpu78.yaml"), ("speed/cpu78", "speed/cpu78.yaml"), ("report/final", "report/final.yaml"),
        ("final", "report/final.yaml"), ("configs/short.yaml", "short.yaml"), ("resnet18.yaml", "resnet18.yaml"),
    ],
)  # fmt: skip
def test_a_recipe_is_found_by_its_name_from_anywhere(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name).samefile(Path(__file__).parent.parent / "configs" / file)


class NetWithDropout(torch.nn.Module):
    """Its arguments are called as some of the default net's are."""

    def __init__(self, dropout: float = 0.0, num_classes: int = 10) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(3, num_classes)
        self.dropout = dropout


@pytest.mark.parametrize(
    ("files", "flags", "expected"),
    [
        ([], ["--model.net=NetWithDropout"], {"net.dropout": 0.0}),
        ([], ["--model.net.dropout=0.2", "--model.net=NetWithDropout"], {"net.dropout": 0.2}),
        (["{model: {net: {class_path: ReportCNN, init_args: {dropout: 0.1}}}}"], ["--model.net=NetWithDropout"],
         {"net.dropout": 0.0}),
        (["{model: {net: {class_path: ReportCNN, init_args: {dropout: 0.1}}}}"], ["--model.net=ReportCNN"],
         {"net.dropout": 0.1}),
        ([], ["--model.net.dropout=0.2"], {"net.dropout": 0.2, "net.max_pool_kernel": 2}),
        ([], ["--model.optimizer=AdamW"], {"optimizer.weight_decay": 0.01, "optimizer.lr": 0.001}),
        (["{model: {optimizer: {class_path: cifar_lightning.optim.muon.MuonSGD, init_args: {lr: 0.15}}}}"],
         ["--model.optimizer=Adam"], {"optimizer.lr": 0.001}),
        (["{model: {optimizer: {class_path: SGD, init_args: {lr: 0.5, momentum: 0.9}}}}",
          "{model: {optimizer: {class_path: AdamW}}}"], [], {"optimizer.lr": 0.001}),
        (["{model: {optimizer: {class_path: SGD, init_args: {lr: 0.5, momentum: 0.9}}}}",
          "{model: {optimizer: {init_args: {lr: 0.4}}}}"], [], {"optimizer.lr": 0.4, "optimizer.momentum": 0.9}),
        (["{model: {scheduler: {class_path: TriangularLR, init_args: {end: 0.3}}}}"], ["--model.scheduler=CosineLR"],
         {"scheduler.end": 0.0}),
    ],
)  # fmt: skip
def test_no_argument_is_carried_into_another_class(
    files: list[str], flags: list[str], expected: dict[str, float], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.yaml" for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_text(content)
    resolved = experiment(*[f"--config={path}" for path in paths], *flags).resolved()["model"]
    for name, value in expected.items():
        group, _, argument = name.partition(".")
        assert resolved[group]["init_args"][argument] == value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_a_difference_that_parses(path: Path) -> None:
    made = experiment("--config", str(path))
    written = yaml.safe_load(path.read_text())
    resolved, defaults = made.resolved(), experiment().resolved()
    for group, settings in written.items():
        for key, value in settings.items():
            if key != "precision":  # whose default is the machine's: a recipe for one of them pins it
                assert resolved[group][key] != defaults[group][key], f"{group}.{key} repeats the default"
            if not isinstance(value, dict):
                assert resolved[group][key] == value
    header = path.read_text().split("\n\n")[0]
    assert header.startswith("# ")
    assert "# Command: python -m cifar_lightning fit --config configs/" in header
    if path.parent.name == "report":
        assert resolved["data"]["val_size"] == 0


def test_all_configs_are_found() -> None:
    assert {"final", "listing", "batch256", "narrow", "no_dropout", "offline"} <= {path.stem for path in CONFIGS}


def test_the_resolved_configuration_gives_the_same_settings_again(tmp_path: Path) -> None:
    first = experiment(
        "--model.net.dropout=0.1", "--data.batch_size=7", "--model.scheduler=StepLR", "--model.scheduler.step_size=3"
    )
    (tmp_path / "config.yaml").write_text(first.resolved_yaml)
    second = experiment("--config", str(tmp_path / "config.yaml"))
    assert second.resolved() == first.resolved()
    assert first.resolved()["trainer"]["precision"] in ("bf16-mixed", "32-true")  # resolved, not null


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--trainer.max_epoch", "3"], "unknown flag --trainer.max_epoch, did you mean '--trainer.max_epochs'?"),
        (["--data.batchsize", "3"], "unknown flag --data.batchsize, did you mean '--data.batch_size'?"),
        (["--batch_size", "3"], "unknown flag --batch_size, did you mean '--data.batch_size'?"),
        (["--model.net.dropot", "0"], "unknown setting model.net.dropot: ReportCNN does not take it, did you mean 'model.net.dropout'?"),
        (["--model.optimizer.lrr", "1"], "unknown setting model.optimizer.lrr: Adam does not take it, did you mean 'model.optimizer.lr'?"),
        (["--model.net", "RepotCNN"], "model.net: there is no class 'RepotCNN', did you mean 'ReportCNN'?"),
        (["--model.optimizer", "Adamm"], "model.optimizer: there is no class 'Adamm', did you mean 'Adam'?"),
        (["--model.scheduler", "StepLRR"], "did you mean 'StepLR'?"),
        (["--model.scheduler", "StepLR"], "model.scheduler: StepLR needs step_size; give --model.scheduler.step_size"),
        (["--model.scheduler.peak", "0.2"], "model.scheduler.peak belongs to a class: name it first, as in --model.scheduler ClassName"),
        (["--data.augment.crop", "4"], "unknown flag --data.augment.crop, did you mean '--data.augment.crop_padding'?"),
        (["--model.net", "my.Net"], "model.net"),
        (["--model.net", "["], "model.net"),
        (["--config", "empty_model.yaml", "--model.optimizer", "Adamm"], "did you mean 'Adam'?"),
        (["--model.net", "torch.nn.Lin"], "model.net"),
        (["--trainer.max_epochs", "three"], "trainer.max_epochs: expected int or null, got 'three'"),
        (["--data.batch_size", "x"], "data.batch_size: expected int, got 'x'"),
        (["--data.batch_size", "1.5"], "data.batch_size: expected int, got '1.5'"),
        (["--final_test", "perhaps"], "final_test: expected bool, got 'perhaps'"),
        (["--model.optimizer.lr", "fast"], "model.optimizer.lr: expected float or torch.Tensor, got 'fast'"),
        (["--model.net.dropout", "much"], "model.net.dropout: expected float, got 'much'"),
        (["--model.scheduler=StepLR", "--model.scheduler.step_size=x"], "model.scheduler.step_size: expected int, got 'x'"),
        (["--lr", "0.1"], "unknown flag --lr, did you mean '--model.optimizer.lr'?"),
        (["--dropout", "0.1"], "unknown flag --dropout, did you mean '--model.net.dropout'?"),
        (["stray"], "unexpected argument 'stray'"),
        (["--data.batch_size", "0"], "data.batch_size must be at least 1, got 0"),
        (["--model.scheduler=ReduceLROnPlateau"], "model.scheduler: several classes are called ReduceLROnPlateau; give "
         "--model.scheduler lightning.pytorch.cli.ReduceLROnPlateau"),
        (["--model.scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau"],
         "model.scheduler: torch's ReduceLROnPlateau does not name what it watches; give "),
        (["--model.scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--model.scheduler.monitor=val/los"],
         "model.scheduler.monitor must be one of train/loss, train/accuracy, val/loss, val/accuracy, got 'val/los'"),
        (["--model.scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--model.scheduler.monitor=val/loss", "--data.val_size=0"],
         "model.scheduler.monitor val/loss needs a validation split: give data.val_size"),
        (["--data.val_size", "-1"], "data.val_size must be at least 0, got -1"),
        (["--data.augment.flop", "x"], "unknown flag --data.augment.flop, did you mean '--data.augment.flip'?"),
        (["--flip", "random"], "unknown flag --flip, did you mean '--data.augment.flip'?"),
        (["--data.augment.flip", "sometimes"], "data.augment.flip: expected none or random or alternating, got 'sometimes'"),
        (["--data.augment.crop_padding", "x"], "data.augment.crop_padding: expected int, got 'x'"),
        (["--data.augment.crop_padding", "99"], "data.augment.crop_padding must be from 0 to 31, got 99"),
        (["--data.augment.sizes", "[16, 40]"], "data.augment.sizes must be from 4 to 32, got 40"),
        (["--data.augment", "random"], "data.augment: expected settings such as --data.augment.brightness, got 'random'"),
        (["--data", "random"], "data: expected settings such as --data.augment.brightness, got 'random'"),
        (["--config", "augment.yaml"], "data.augment: expected settings such as --data.augment.brightness, got 'random'"),
        (["--config", "flop.yaml"], "unknown setting data.augment.flop, did you mean 'data.augment.flip'?"),
        (["--model.net.dropout", "1.5"], "dropout must be at least 0 and below 1, got 1.5"),
        (["--model.optimizer.lr", "-1"], "model.optimizer.lr: Invalid learning rate: -1"),
        (["--model.scheduler_interval", "batch"], "model.scheduler_interval: expected epoch or step, got 'batch'"),
        (["--trainer.precision", "bf17"], "got 'bf17', did you mean 'bf16'?"),
        (["--trainer.callbacks+=EarlyStopping"], "trainer.callbacks: EarlyStopping needs monitor; give --trainer.callbacks.monitor"),
        (["--trainer.strategy", "ddp_spawn"], "trainer.strategy must be auto or ddp"),
        (["--seed_everything", "true"], "seed_everything must be a whole number from 0"),
        (["--seed_everything", "-5"], "seed_everything must be a whole number from 0"),
        (["--trainer.num_nodes", "2"], "trainer.num_nodes 2: start it with torchrun or srun"),
        (["--trainer.sync_batchnorm", "true", "--trainer.accelerator", "cpu"], "trainer.sync_batchnorm needs GPUs"),
        (["--trainer.val_check_interval", "0"], "trainer.val_check_interval must be above 0"),
        (["--model.scheduler", "StepLR", "--model.scheduler.step_size", "0"], "model.scheduler: integer modulo by zero"),
        (["--model.optimizer", "LBFGS"], "it may work with --model.channels_last false"),
        (["--model.head_lr", "-1"], "model.head_lr must be at least 0, got -1"),
        (["--model.optimizer.differentiable", "true"], "model.optimizer: a leaf Variable"),
        (["--trainer.accumulate_grad_batches", "0"], "trainer.accumulate_grad_batches must be at least 1, got 0"),
        (["--trainer.check_val_every_n_epoch", "0"], "trainer.check_val_every_n_epoch must be at least 1, got 0"),
        (["--config", "null.yaml"], "data.augment: expected settings such as data.augment.flip, got null"),
        (["--config", "null_tta.yaml"], "model.tta: expected settings such as model.tta.views, got null"),
        (["--model.tta.views", "mirror"], "model.tta.views: expected none or flip or flip_translate, got 'mirror'"),
        (["--model.tta.below", "2"], "model.tta.below must be above 0 and at most 1, got 2.0"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: no such file or recipe; recipes: batch256, cpu78, "),
        (["--config", "cpu7"], "--config cpu7: no such file or recipe, did you mean 'cpu78'?"),
        (["--config", "broken.yaml"], "--config broken.yaml is not readable YAML: .*line 2"),
        (["--config", "latin.yaml"], "--config latin.yaml is not readable YAML"),
        (["--config", "list.yaml"], "--config list.yaml holds no settings"),
        (["--config", "key.yaml"], "unknown setting trainer.max_epoch, did you mean 'trainer.max_epochs'?"),
        (["--config", "group.yaml"], "unknown setting trainr.max_epochs, did you mean 'trainer.max_epochs'?"),
        (["--config", "ckpt.yaml"], "ckpt is a flag, not a setting"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_input_is_one_line(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("model: [\n")
    Path("latin.yaml").write_bytes("data: {root: dätä}".encode("latin-1"))
    Path("list.yaml").write_text("- data\n")
    Path("key.yaml").write_text("trainer: {max_epoch: 3}\n")
    Path("group.yaml").write_text("trainr: {max_epochs: 3}\n")
    Path("augment.yaml").write_text("data: {augment: random}\n")
    Path("flop.yaml").write_text("data: {augment: {flop: 3}}\n")
    Path("null.yaml").write_text("data: {augment: null}\n")
    Path("null_tta.yaml").write_text("model: {tta: null}\n")
    Path("empty_model.yaml").write_text("model:\ndata: {batch_size: 8}\n")
    Path("ckpt.yaml").write_text("ckpt: last\n")
    with pytest.raises(ConfigError) as caught:
        experiment(*arguments)
    assert "\n" not in str(caught.value)
    early = None  # what is said before torch is loaded: the same, or nothing
    try:
        assert not answered("fit", "", arguments)
    except ConfigError as error:
        early = str(error)
    assert early == (str(caught.value) if text.startswith(EARLY) else None)
    if ".*" in text:
        assert __import__("re").search(text, str(caught.value)), str(caught.value)
    else:
        assert text in str(caught.value)
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--trainer.accelerator", "gpu"], "trainer.accelerator gpu: none is found here"),
        (["--trainer.accelerator", "gppu"], "trainer.accelerator gppu: none is found here"),
        (["--trainer.accelerator", "tpu"], "trainer.accelerator tpu: none is found here"),
        (["--data.batch_size", "41"], "data.batch_size 41 is above the 40 training images"),
        (
            [
                "--model.net",
                "torch.nn.Bilinear",
                "--model.net.in1_features=1",
                "--model.net.in2_features=1",
                "--model.net.out_features=1",
            ],
            "model.net: Bilinear cannot take a 3x32x32 image",
        ),
        (["--model.net.num_classes", "7"], "the net gives 7 outputs, the data have 10 classes"),
    ],
)
def test_what_only_shows_later_leaves_no_run_folder(
    run: Callable[..., tuple[int, str, str]], flags: list[str], text: str
) -> None:
    if "gpu" in flags and torch.cuda.is_available():
        pytest.skip("this machine has the GPU that the test asks for in vain")
    exit_code, _, err = run("fit", *(TINY_TRAINING if "--model.net" in flags else TINY_FLAGS), *flags)
    assert exit_code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert text in err
    assert not list(Path().glob("lightning_logs/*/*"))


def test_values_of_a_flag_come_in_their_order() -> None:
    arguments = ["--net=a", "--other", "x", "--net", "b", "--net", "c=d", "--net"]
    assert values_of(arguments, "--net") == ["a", "b", "c=d"]
