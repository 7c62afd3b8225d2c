"""Fixtures of the tests that find, fetch and unpack the data set; none is in force unless it is asked for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from data.fetching import Fetching
from data.loopback import Loopback
from data.official_format import TINY

from cifar_lightning.data.archive import MIRROR_VARIABLE, ROOT_VARIABLE


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine, and no source but those that a test names."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "no such mirror"))


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


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)
