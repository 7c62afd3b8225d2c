"""Nothing is seen of a measured training, and nothing of it stays."""

import logging
import signal
import sys
import warnings

import pytest
from rich.console import Console

from cifar_lightning.bench.quiet import out_of_sight, signal_handlers_kept, without_advice


def test_what_is_out_of_sight_still_draws(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with out_of_sight():
        assert sys.stdout.isatty()
        assert Console().is_terminal
        print("out")
        print("err", file=sys.stderr)
    assert capfd.readouterr() == ("", "")


def test_handlers_of_signals_come_back_after_an_error() -> None:
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]

    def fail() -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"), signal_handlers_kept():
        fail()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_advice_is_left_out_and_heard_again_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("lightning.pytorch").level
    with without_advice():
        warnings.warn("use more workers", stacklevel=1)
        logging.getLogger("lightning.pytorch").warning("tip")
    assert capfd.readouterr().err == ""
    assert logging.getLogger("lightning.pytorch").level == level
    with pytest.warns(UserWarning, match="use more workers"):
        warnings.warn("use more workers", stacklevel=1)
