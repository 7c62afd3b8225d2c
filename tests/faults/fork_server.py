"""A process that has imported everything and computed nothing; it forks one child per command line.

A fault needs a process of its own, which takes seconds to import torch and Lightning; a fork takes none. Orders come as
JSON lines on stdin, answers go out as JSON lines on stdout: first a child's process id, then its exit code.
"""

import importlib
import importlib.util
import json
import os
import select
import signal
import sys
from typing import Any

MODULES = (
    "cifar_lightning.training.fit", "cifar_lightning.training.evaluate",
    "cifar_lightning.data.command", "cifar_lightning.inference",
    "faults.injections", "tensorboard.compat.tensorflow_stub", "matplotlib.figure", "torch.utils.tensorboard",
)  # fmt: skip


def serve() -> dict[str, Any] | None:
    """Forks until stdin is closed; returns the order in a child and None in the server."""
    answers = sys.stdout
    children: set[int] = set()
    buffer = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        for pid in list(children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                children.remove(pid)
                answer = {"pid": pid, "exit_code": os.waitstatus_to_exitcode(status)}
                print(json.dumps(answer), file=answers, flush=True)
        if not readable:
            continue
        received = os.read(0, 65536)
        if not received:
            return None
        buffer += received
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return order
            children.add(pid)
            print(json.dumps({"order": order["order"], "pid": pid}), file=answers, flush=True)


def become(order: dict[str, Any]) -> int:
    """In the child: the order's folder, environment and faults, then the command."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        target = os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, descriptor)
        os.close(target)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    torch.set_num_threads(order.get("threads", 1))
    from faults import injections

    for name, settings in order["faults"]:
        getattr(injections, name)(**settings)
    from cifar_lightning.cli import main

    return main(order["arguments"])


def main() -> dict[str, Any] | None:
    """Imports everything and serves; returns the order in a child and None in the server, at its end."""
    for module in MODULES:
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads must not be forked"
    print(json.dumps({"ready": os.getpid()}), flush=True)
    return serve()


if __name__ == "__main__":
    child_order = main()
    if child_order is not None:
        sys.exit(become(child_order))
