"""Fixtures of the tests that find, fetch and unpack the data set; none is in force unless it is asked for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from data.loopback import Loopback
from data.official_format import TINY

from cifar_lightning.data import download, layouts


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine, and no source but those that a test names."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for variable in (layouts.CIFAR10.root_variable, layouts.CIFAR10.mirror_variable):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(download, "MIRRORS", ())


@pytest.fixture
def serve() -> Iterator[Callable[..., Loopback]]:
    """Start a server; it stops with the test."""
    with ExitStack() as stack:

        def start(body: bytes = TINY.archive, **behaviour: object) -> Loopback:
            return stack.enter_context(Loopback(body, **behaviour))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that is not there yet, with a space and an umlaut in its name."""
    return tmp_path / "my dätä"
