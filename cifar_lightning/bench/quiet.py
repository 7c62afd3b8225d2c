"""What measured trainings may not leave behind: lines on the console, and handlers of signals."""

import contextlib
import io
import logging
import os
import signal
import warnings
from collections.abc import Iterator

LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")


class BlindTerminal(io.TextIOWrapper):
    """A terminal that nobody sees: progress bars take it for a true one and draw, which costs what drawing costs."""

    def isatty(self) -> bool:
        """What the bars ask."""
        return True


@contextlib.contextmanager
def blind_terminal() -> Iterator[BlindTerminal]:
    """A terminal over the null device."""
    with open(os.devnull, "wb") as sink, BlindTerminal(sink, encoding="utf-8") as terminal:
        yield terminal


@contextlib.contextmanager
def out_of_sight() -> Iterator[BlindTerminal]:
    """Standard output and error go to a blind terminal, which is yielded."""
    with blind_terminal() as terminal, contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
        yield terminal


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """No warnings and no log lines: the contestants are set as they are on purpose."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    try:
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Puts the handlers of Ctrl-C and SIGTERM back, whatever a training did with them and however it ended."""
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
