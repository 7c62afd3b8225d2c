"""The short help and the early answers: true to the parser, and given without torch."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cifar_lightning.cli import VERBS
from cifar_lightning.config import flags
from cifar_lightning.config.help import TRAINER_FLAGS, answered, short_help
from cifar_lightning.config.invocation import CLASS_SETTINGS, Invocation
from cifar_lightning.config.parser import Experiment
from cifar_lightning.config.recipes import short_names
from cifar_lightning.errors import ConfigError
from cifar_lightning.training.evaluate import Scoring

Run = Callable[..., tuple[int, str, str]]
PARSED_VERBS = ("fit", "validate", "test")


class _Stopped(Exception):  # noqa: N818 - no error
    """Carries the parser out of an Experiment before anything is parsed."""


@pytest.fixture
def parser_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    def stop(experiment: Experiment, parser: Any, args: Any) -> None:
        raise _Stopped(parser)

    def build(verb: str) -> Any:
        with pytest.raises(_Stopped) as caught:
            (Experiment if verb == "fit" else Scoring)(verb, ["--help-all"])  # which needs no checkpoint
        return caught.value.args[0]

    monkeypatch.setattr(Experiment, "parse_arguments", stop)
    return build


def defaults_of(parser: Any) -> dict[str, Any]:
    """The parser's defaults by the names of flags, as YAML has them."""
    names: dict[str, Any] = {}
    for key, value in flags.flat(parser.get_defaults().as_dict()).items():
        name = key.replace(".init_args", "").removesuffix(".class_path")
        names[name] = value.rpartition(".")[2] if key.endswith(".class_path") else value
    return names


@pytest.mark.parametrize("verb", PARSED_VERBS)
def test_the_flags_read_from_the_sources_are_the_parser_s(verb: str, parser_of: Callable[[str], Any]) -> None:
    parser = parser_of(verb)
    ours = {name: default for name, (default, _) in flags.all_flags(verb).items()}
    theirs = defaults_of(parser)
    assert ours.keys() == theirs.keys()
    assert json.loads(json.dumps(ours | {"calibrate": False})) == json.loads(json.dumps(theirs | {"calibrate": False}))
    for option in parser._option_string_actions:  # none that it knows is refused
        if option.startswith("--"):
            flags.refuse_unknown(verb, Invocation(None, [], [option, f"{option}=1"]))


@pytest.mark.parametrize("verb", PARSED_VERBS)
def test_help_shows_our_flags_with_their_true_defaults(verb: str, parser_of: Callable[[str], Any]) -> None:
    text = short_help(verb, VERBS[verb][2])
    lines = text.splitlines()
    assert len(lines) <= 88
    assert max(map(len, lines)) <= 120
    assert VERBS[verb][2] in text
    assert "arXiv" not in text
    assert " ;" not in text  # what a paper in brackets may leave behind
    theirs = defaults_of(parser_of(verb))
    shown = {}
    for line in lines:
        if found := re.match(r"  --([\w.]+) (\[.*?\]|\S+|) ", line + " "):
            shown[found[1]] = yaml.safe_load(found[2]) if found[2] else False
    ours = {name for name in theirs if not name.startswith(("trainer.", "model.optimizer."))}
    assert shown.keys() == ours | TRAINER_FLAGS.keys() | {"model.optimizer", "model.optimizer.lr"}
    for name, default in shown.items():
        value = theirs[name]
        assert default == (list(value) if isinstance(value, tuple) else value), name
    assert {f"trainer.{name}" for name in ("max_epochs", "max_steps", "max_time", "accelerator")} < shown.keys()
    assert {f"trainer.{name}" for name in ("devices", "precision", "default_root_dir")} < shown.keys()
    for name in short_names():
        assert re.search(rf"^  .*\b{name}\b", text.partition("recipes, ")[2], re.MULTILINE)
    assert {"fit": "--final_test", "validate": "--calibrate", "test": "--tta"}[verb] in text


def test_nets_are_listed_with_their_first_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--model.net.help"], ["--model.net.help", "--data.batch_size=3"]):
        assert answered("fit", "", arguments)
        first, *lines = capsys.readouterr().out.splitlines()
        assert "--model.net.help NAME" in first
        assert [line.split()[0] for line in lines] == ["ReportCNN", "ResNet18", "SpeedNet"]
        assert lines[1].endswith("  Four stages of two basic blocks, from `width` to 8 times `width` channels")


@pytest.mark.parametrize(
    ("flag", "class_name", "argument"),
    [("net", "SpeedNet", "widths"), ("optimizer", "Adam", "betas"), ("scheduler", "CosineLR", "warmup")],
)
def test_a_class_s_arguments_are_the_parser_s_to_show(run: Run, flag: str, class_name: str, argument: str) -> None:
    exit_code, out, _ = run("fit", f"--model.{flag}.help", class_name)
    assert exit_code == 0
    assert f"--model.{flag}.{argument}" in out


@pytest.mark.parametrize("verb", PARSED_VERBS)
def test_help_all_is_the_whole_parser_without_lists_of_classes(run: Run, verb: str) -> None:
    exit_code, out, _ = run(verb, "--help-all")
    assert exit_code == 0
    assert out.startswith(f"usage: python -m cifar_lightning {verb} [flags]")
    for name in flags.all_flags(verb):
        assert f"--{name}" in out or any(name.startswith(f"{setting}.") for setting in CLASS_SETTINGS)
    assert not re.search(r"known\s+subclasses|torch\.optim\.\w*Adagrad|callbacks\.LambdaCallback", out)


def test_answers_that_need_no_torch_do_not_load_it(tmp_path: Path) -> None:
    (tmp_path / "key.yaml").write_text("trainer: {max_epoch: 3}\n")
    answers = {
        "fit --help": 0, "test -h": 0, "validate --config cpu78 --help": 0, "fit --model.net.help": 0,
        "fit --trainer.max_epoch 3": 2, "fit --modle.net X": 2, "test --data.batchsize=5": 2, "fit --lr 1": 2,
        "fit --config cpu87": 2, "fit --config nowhere.yaml": 2, "fit --config key.yaml": 2, "data --help": 0,
    }  # fmt: skip
    code = (
        "import sys; from cifar_lightning.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    try: code = main(line.split())\n"
        "    except SystemExit as stop: code = stop.code\n"
        "    print('CODE', code, [name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *answers], cwd=tmp_path, capture_output=True, text=True)
    assert re.findall(r"^CODE (.*)", done.stdout, re.MULTILINE) == [f"{code} []" for code in answers.values()]
    assert "error: unknown flag --trainer.max_epoch, did you mean '--trainer.max_epochs'?\n" in done.stderr
    assert "error: unknown flag --modle.net, did you mean '--model.net'?\n" in done.stderr
    assert done.stderr.count("error: ") == list(answers.values()).count(2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"], ["--model.net.anything", "1"],
        ["--model.optimizer=SGD", "--model.optimizer.momentum=0.9"], ["--print_config=skip_default"],
        ["--data", "x.yaml"], ["--data.augment", "x.yaml"], ["--data.root", "--with a space"],
        ["--trainer.max_epochs.x", "1"], ["stray", "-x"],
    ],
)  # fmt: skip
def test_what_is_not_sure_is_left_to_the_parser(arguments: list[str]) -> None:
    assert not answered("fit", "", arguments)


@pytest.mark.parametrize(
    ("signature", "refused"),
    [
        ("self, *, logger=None, brand_new=1", ["trainer.max_epoch"]),  # a Lightning with one flag more
        ("self, *, logger=None, **kwargs", []),  # which may take anything
        (None, []),  # or has moved it
    ],
)
def test_a_flag_that_another_lightning_may_know_is_not_refused(
    signature: str | None, refused: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "newer_lightning").mkdir()
    (tmp_path / "newer_lightning" / "__init__.py").touch()
    if signature:
        code = f"class Trainer:\n    def __init__({signature}):\n        pass\n"
        (tmp_path / "newer_lightning" / "trainer.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(flags.SOURCES, "trainer", f"newer_lightning.{'trainer'}.Trainer")
    flags._arguments.cache_clear()
    found = []
    for name in ("trainer.brand_new", "trainer.max_epoch", "trainer.max_epochs"):
        try:
            assert not answered("fit", "", [f"--{name}", "3"])
        except ConfigError:
            found.append(name)
    flags._arguments.cache_clear()
    assert found == refused
    assert len(short_help("fit", "train").splitlines()) > 50
