"""What the `data` verb prints, repairs and rejects."""

import os
from pathlib import Path

import pytest
from data.folders import cut_one
from data.official_format import FOLDER, TINY

from cifar_lightning.data import layouts
from cifar_lightning.data.command import main
from cifar_lightning.errors import ConfigError

pytestmark = pytest.mark.usefixtures("offline")


ROOT_VARIABLE, MIRROR_VARIABLE = layouts.CIFAR10.root_variable, layouts.CIFAR10.mirror_variable
REAL_ROOT = os.environ.get(ROOT_VARIABLE, "")  # read here: the tests themselves run without it
real = pytest.mark.skipif(not REAL_ROOT, reason=f"${ROOT_VARIABLE} names no copy of the official CIFAR-10")


@pytest.fixture(autouse=True)
def tiny(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb expects the tiny data set, but in the test of the real one."""
    if "real" not in request.node.name:
        monkeypatch.setitem(layouts.LAYOUTS, "cifar10", TINY.layout)


def test_the_verb_downloads_then_finds_then_repairs(
    root: Path, serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    monkeypatch.setenv(MIRROR_VARIABLE, server.url)
    found = f"CIFAR-10: 20 training and 4 test images in {root / FOLDER} (7 files, MD5 verified)"
    for arguments, story in (
        (["--root", str(root)], f"downloaded from {server.host}"),
        ([f"--data.root={root}"], "already there"),
    ):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"{found}, {story}\n"
    cut_one(root / FOLDER)
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    assert main([]) == 0
    assert capsys.readouterr().out == f"{found}, repaired, downloaded from {server.host}\n"


def test_the_verb_uses_the_default_folder(
    tmp_path: Path, serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MIRROR_VARIABLE, serve().url)
    assert main([]) == 0
    assert f"in {tmp_path / 'data' / FOLDER} (7 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--rot", "x"], "unknown argument --rot, did you mean '--root'?"),
        (["--data.rot=x"], "unknown argument --data.rot, did you mean '--data.root'?"),
        (["--roo", "x"], "unknown argument --roo, did you mean '--root'?"),
        (["somewhere"], "unknown argument somewhere;"),
        (["--root"], "argument --root/--data.root: expected one argument"),
        (["--root", ""], "--data.root is empty"),
    ],
)
def test_the_verb_rejects(arguments: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        main(arguments)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@real
def test_the_verb_on_the_real_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, REAL_ROOT)
    assert main([]) == 0
    assert capsys.readouterr().out == (
        f"CIFAR-10: 50,000 training and 10,000 test images in {Path(REAL_ROOT).absolute() / FOLDER} "
        "(7 files, MD5 verified), already there\n"
    )
