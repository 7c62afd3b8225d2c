"""Fixtures of the whole suite: nothing of the machine, a tiny CIFAR-10 on disk, the CLI in this process."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from data.official_format import TinyDataset, tiny_dataset
from tiny import TINY_FLAGS

from cifar_lightning import process

# A shell starts its background jobs with Ctrl-C ignored, nohup with SIGHUP ignored, and so what they start; tests send
# both all the same.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests that run side by side (pytest -n) share the cores: one thread for each, and for the processes that they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

REAL_ROOT = os.environ.get("CIFAR10_ROOT")  # read before any test changes the environment

# 60 training and 12 test images: enough for two classes' worth of everything, milliseconds to train on.
TINY_BATCHES = tiny_dataset(images_per_batch=12)


@pytest.fixture(autouse=True)
def no_outer_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine has set does not reach a test."""
    for name in ("CIFAR10_ROOT", "CIFAR10_MIRROR", "CIFAR100_ROOT", "CIFAR100_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """What a command in this process does to the handlers of signals ends with its test; processes inherit it."""
    handlers = {signum: signal.getsignal(signum) for signum in process.STOPPING}
    yield
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@pytest.fixture
def seeded() -> None:
    """The same numbers in every run."""
    torch.manual_seed(0)


@pytest.fixture
def real_root() -> str:
    """The folder of the real CIFAR-10; without one the test is left out, and pytest's summary says so."""
    if not REAL_ROOT:
        pytest.skip("needs the real CIFAR-10: set CIFAR10_ROOT to the folder that holds cifar-10-batches-py")
    return REAL_ROOT


@pytest.fixture
def tiny_cifar10(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TinyDataset:
    """Makes the data module read 60 + 12 noise images in the official format from $CIFAR10_ROOT."""
    from cifar_lightning.data import layouts

    monkeypatch.setitem(layouts.LAYOUTS, "cifar10", TINY_BATCHES.layout)
    monkeypatch.setenv("CIFAR10_ROOT", str(TINY_BATCHES.write_folder(tmp_path / "cifar10")))
    return TINY_BATCHES


@pytest.fixture
def run(
    request: pytest.FixtureRequest,
    tiny_cifar10: TinyDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Runs a verb of the CLI in this process in a folder of its own; returns exit code, stdout and stderr."""
    from matplotlib.figure import Figure

    from cifar_lightning.cli import main
    from cifar_lightning.runs import figures

    # Drawing takes longer than training the tiny net: only tests that are marked `draws` have the true figures.
    if not request.node.get_closest_marker("draws"):
        for figure in ("sample_grid", "curves", "confusion", "worst_mistakes", "reliability"):
            monkeypatch.setattr(figures, figure, lambda *arguments, **settings: Figure(figsize=(1, 1)))

    folder = tmp_path / "a folder näme"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            exit_code = main(list(arguments))
        except SystemExit as stop:
            exit_code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return exit_code, out, err

    return call


@pytest.fixture
def fit(run: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[Path, str]]:
    """Trains the tiny net on the tiny data; returns the new run's folder and the output."""

    def call(*arguments: str) -> tuple[Path, str]:
        exit_code, out, err = run("fit", *TINY_FLAGS, *arguments)
        assert exit_code == 0, err
        assert not err
        return max(Path("lightning_logs").glob("*/*"), key=lambda folder: folder.stat().st_mtime_ns), out

    return call
