"""Contestants in processes of their own, each in the environment that its users would have."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from cifar_lightning import process
from cifar_lightning.bench.stopwatch import Span
from cifar_lightning.errors import UserError

Measure = Callable[[Span], float]


@contextlib.contextmanager
def started(
    makers: Mapping[str, tuple[Callable[..., Measure], tuple[Any, ...]]], tuned: Collection[str]
) -> Iterator[dict[str, Measure]]:
    """Starts a process for each contestant, all at once, and ends them when the context does.

    Args:
        makers: by name, a function of a module and its arguments; called in the process, it gives what measures there.
        tuned: the contestants that have what `cifar_lightning.process` sets; the others do without it.

    Yields:
        By name: hands a span to its process, waits, and returns what was measured or raises what was raised there.
    """
    context = multiprocessing.get_context("spawn")
    processes = []
    remotes: dict[str, Measure] = {}
    try:
        for name, (make, arguments) in makers.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make, arguments, name in tuned))
            with contextlib.nullcontext() if name in tuned else _environment_of_a_script():
                process.start()
            theirs.close()
            processes.append(process)
            remotes[name] = _remote(name, ours)
        yield remotes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _remote(name: str, connection: Connection) -> Measure:
    def measure(span: Span) -> float:
        connection.send(span)
        try:
            answer = connection.recv()
        except EOFError:
            raise UserError(f"the process of the contestant '{name}' died; was there enough memory?") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return measure


def _serve(connection: Connection, make: Callable[..., Measure], arguments: tuple[Any, ...], is_tuned: bool) -> None:
    if is_tuned:
        process.keep_freed_memory()
    measure: Measure | None = None
    while True:
        try:
            span = connection.recv()
            measure = measure or make(*arguments)
            connection.send(measure(span))
        except EOFError:
            return
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            try:
                connection.send(error)
            except Exception:  # `error` cannot be pickled, for whatever reason: its type and its words can
                connection.send(UserError(f"{type(error).__name__}: {error}"))


@contextlib.contextmanager
def _environment_of_a_script() -> Iterator[None]:
    """What `cpu` has set in this process, a script that knows nothing of it would not have."""
    kept = {name: os.environ.pop(name) for name in process.set_here if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
