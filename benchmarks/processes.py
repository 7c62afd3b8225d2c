"""Contestants in processes of their own, each in the environment that its users would have.

Imports no torch, so that a process gets its environment first.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from cifar_lightning import process
from cifar_lightning.errors import UserError

Measure = Callable[[Any], float]  # of a span of training steps: see `contestants.Span`
Maker = tuple[Callable[..., Measure], tuple[Any, ...]]  # a function of a module and its arguments


@contextlib.contextmanager
def in_own_processes(makers: Mapping[str, Maker], tuned: Collection[str]) -> Iterator[dict[str, Measure]]:
    """Starts a process for each contestant and ends them when the context does.

    Args:
        makers: by name what makes the contestant, in its process, when it is first measured.
        tuned: the contestants that have what `cifar_lightning.process` sets; the others do without it.

    Yields:
        By name: measures in that process and returns the value, or raises what was raised there.
    """
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        remotes: dict[str, Measure] = {}
        # Ctrl-C reaches every process. The contestants ignore it, as they inherit here; this process ends them.
        on_ctrl_c = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for name, maker in makers.items():
                initializer = process.keep_freed_memory if name in tuned else None
                executor = stack.enter_context(ProcessPoolExecutor(1, context, initializer))
                with contextlib.nullcontext() if name in tuned else _environment_of_a_script():
                    executor.submit(os.getpid)  # starts the process
                remotes[name] = functools.partial(_measure_there, name, executor, maker)
        finally:
            signal.signal(signal.SIGINT, on_ctrl_c)
        try:
            yield remotes
        finally:
            for child in multiprocessing.active_children():  # else an executor waits for the end of its work
                child.kill()


def _measure_there(name: str, executor: ProcessPoolExecutor, maker: Maker, span: Any) -> float:
    try:
        return executor.submit(_measure_here, maker, span).result()
    except BrokenProcessPool:
        raise UserError(f"the process of the contestant '{name}' died; was there enough memory?") from None


def _measure_here(maker: Maker, span: Any) -> float:
    return _made(maker)(span)


@functools.cache
def _made(maker: Maker) -> Measure:
    make, arguments = maker
    return make(*arguments)


@contextlib.contextmanager
def _environment_of_a_script() -> Iterator[None]:
    """Without what `cpu` has set in this process: a script of somebody else would not have it."""
    kept = {name: os.environ.pop(name) for name in process.set_here if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
