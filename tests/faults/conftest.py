"""One fork server for all of the matrix; each test has a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.forked import ForkServer
from faults.injections import TINY_TRAINED
from faults.scenes import EVERYTHING
from run_folders import only_run


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """The parent of every child."""
    server = ForkServer(tmp_path_factory.mktemp("children"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `EVERYTHING` that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    TINY_TRAINED.write_folder(folder / "data")
    exit_code, _, err = fork_server.run("fit", *EVERYTHING, folder=folder)
    assert exit_code == 0, err
    return only_run(folder / "lightning_logs")


@pytest.fixture
def cli(fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ForkServer:
    """The command line in a folder with an umlaut and a space, the tiny data set in `data/` there."""
    folder = tmp_path / "a földer"
    folder.mkdir()
    TINY_TRAINED.write_folder(folder / "data")
    monkeypatch.chdir(folder)
    fork_server.folder = folder
    return fork_server
