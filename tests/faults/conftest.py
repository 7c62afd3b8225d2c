"""One fork server for all of the matrix; each test has a folder of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.forked import ForkServer
from faults.injections import TINY_TRAINED


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path_factory.mktemp("children"))
    yield server
    server.close()


@pytest.fixture
def cli(fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ForkServer:
    """The command line in a folder with an umlaut and a space, the tiny data set in `data/` there."""
    folder = tmp_path / "a földer"
    folder.mkdir()
    TINY_TRAINED.write_folder(folder / "data")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    os.environ.pop("CIFAR10_ROOT", None)
    fork_server.folder = folder
    return fork_server
