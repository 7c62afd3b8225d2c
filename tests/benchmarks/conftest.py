"""A workbench over the tiny data set, and `python -m benchmarks` in this process."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data.official_format import TinyDataset, reader_of
from small import TINY

from benchmarks import data_path
from benchmarks.__main__ import main
from benchmarks.workbench import Workbench, find_data

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tiny_rival(tiny_cifar10: TinyDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision reads the tiny data set too."""
    monkeypatch.setattr(data_path, "CIFAR10", reader_of(tiny_cifar10.layout))


@pytest.fixture
def bench(tiny_rival: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    from matplotlib.figure import Figure

    from cifar_lightning.runs import figures

    # Drawing takes longer than everything else, and is no part of what is timed.
    monkeypatch.setattr(figures, "curves", lambda *arguments, **settings: Figure(figsize=(1, 1)))
    folder = tmp_path / "bench"
    folder.mkdir()
    data = find_data(TINY.val_size)
    data.setup("fit")
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield Workbench("cpu", TINY, data, folder)
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    assert not list(folder.iterdir()), "something stayed behind"


@pytest.fixture
def benchmark(run: Run, tiny_rival: None, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a benchmark in the folder of `run`; returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            exit_code = main(list(arguments))
        except SystemExit as stop:
            exit_code = int(stop.code or 0)
        return exit_code, *capfd.readouterr()

    return call
