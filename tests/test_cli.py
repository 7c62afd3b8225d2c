"""The verbs, the help and the exit codes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import TINY_FLAGS

from cifar_lightning import cli
from cifar_lightning.errors import CheckpointError, ConfigError, DataError, NonFiniteError, OutputError

Run = Callable[..., tuple[int, str, str]]


def test_help_names_every_verb_and_loads_neither_torch_nor_lightning() -> None:
    code = (
        "import sys; from cifar_lightning.cli import main; main(['--help']);"
        "print([name for name in ('torch', 'lightning', 'numpy', 'jsonargparse') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for verb in cli.VERBS:
        assert f"\n  {verb} " in out
    assert out.endswith("[]\n")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help_is_not_an_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert "usage: python -m cifar_lightning VERB" in capsys.readouterr().out


def test_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tset"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown verb 'tset', did you mean 'test'?")


def test_an_argument_that_the_locale_has_not_decoded(capsys: pytest.CaptureFixture[str]) -> None:
    """What Python makes of a name in UTF-8 under `PYTHONUTF8=0 LC_ALL=C`."""
    assert cli.main(["fit", "--config", "na\udcc3\udcafve.yaml"]) == 2
    assert capsys.readouterr().err.startswith(
        r"error: the argument na\udcc3\udcafve.yaml is no UTF-8 here; PYTHONUTF8=1"
    )


def test_no_more_threads(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `threading` raises under a low `ulimit -u`."""

    def raise_it(argv: list[str]) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("cifar_lightning.training.fit.fit", raise_it)
    assert cli.main(["fit"]) == 1
    assert "(ulimit -u)" in capsys.readouterr().err


def test_a_verb_that_moved(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--quick"]) == 2
    assert capsys.readouterr().err == "error: bench is now: python -m benchmarks (from a checkout)\n"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConfigError("x"), 2), (DataError("x"), 3), (CheckpointError("x"), 4), (NonFiniteError("x"), 5),
        (OutputError("x"), 6), (OSError(28, "No space left on device", "x.ckpt"), 6),
        (KeyboardInterrupt(), 130), (RuntimeError("x\ny"), 1),
    ],
)  # fmt: skip
def test_exit_codes(
    error: BaseException, exit_code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr("cifar_lightning.training.fit.fit", fails)
    assert cli.main(["fit"]) == exit_code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert cli.main(["fit", "--debug"]) == exit_code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_never_random_weights(run: Run, verb: str) -> None:
    assert run(verb)[0] == 2
    assert "give --ckpt with a path, best, last or pretrained" in run(verb)[2]
    for flags in (["--ckpt"], ["--ckpt", "best"], ["--ckpt", "nowhere.ckpt"], ["--ckpt=https://host/a.ckpt"]):
        exit_code, out, err = run(verb, *flags)
        assert exit_code == 4
        assert err.count("\n") == 1
        assert not out
    assert not list(Path().iterdir())


def test_missing_data(run: Run, tmp_path: Path) -> None:
    exit_code, _, err = run("fit", "--data.root", str(tmp_path / "nowhere"))
    assert exit_code == 3
    assert "--data.source sample" in err
    assert err.count("\n") == 1
    assert not list(Path().iterdir())


def test_logs_that_cannot_be_written(run: Run) -> None:
    Path("logs").write_text("a file where the folder should be")
    exit_code, _, err = run("fit", *TINY_FLAGS, "--trainer.default_root_dir=logs")
    assert exit_code == 6
    assert "cannot make the run's folder logs/default" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["fit", "test", "validate"])
def test_a_checkpoint_that_is_none(run: Run, verb: str) -> None:
    Path("x.ckpt").write_bytes(b"garbage")
    exit_code, _, err = run(verb, "--ckpt", "x.ckpt")
    assert exit_code == 4
    assert err.startswith("error: x.ckpt is not a readable checkpoint")
    assert err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["x.ckpt"]


def test_a_verb_s_own_help(run: Run) -> None:
    exit_code, out, _ = run("fit", "--help")
    assert exit_code == 0
    assert "--data.val_size" in out
    assert "--final_test" in out
