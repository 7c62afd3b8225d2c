"""The command line in forked processes, as tests see it."""

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny import TINY_FLAGS

TESTS = Path(__file__).parents[1]
PATIENCE_S = 300.0  # for a machine that is busy; a child takes about a second

Fault = tuple[str, dict[str, Any]]


@dataclass
class Child:
    """A command that runs, or has run."""

    server: "ForkServer"
    pid: int
    stdout: Path
    stderr: Path

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code; negative where a signal killed it."""
        return self.server.exit_code(self.pid, timeout_s)

    def send(self, signum: int) -> None:
        """A signal from outside."""
        os.kill(self.pid, signum)

    def wait_for(self, path: Path, timeout_s: float = PATIENCE_S) -> None:
        """Until the child, which must live, has made a file."""
        deadline = time.monotonic() + timeout_s
        while not path.exists():
            assert self.server.peek(self.pid) is None, self.err
            assert time.monotonic() < deadline
            time.sleep(0.002)

    @property
    def out(self) -> str:
        """What it has printed."""
        return self.stdout.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it has complained of."""
        return self.stderr.read_text(encoding="utf-8")


def _spawn(environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "faults.fork_server"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@dataclass
class ForkServer:
    """Starts children in `folder`, which tests move; stops with `close`."""

    scratch: Path
    folder: Path = field(default_factory=Path)
    _codes: dict[int, int] = field(default_factory=dict)
    _buffer: bytes = b""

    def __post_init__(self) -> None:
        places = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        quiet = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        dropped = ("CIFAR10_ROOT", "CIFAR10_MIRROR")
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        self._server = _spawn({**environment, **quiet, "PYTHONPATH": places})
        self._orders = itertools.count()
        self._answer(lambda answer: "ready" in answer, PATIENCE_S)

    def start(
        self, *arguments: str, faults: list[Fault] | None = None, environment: dict[str, str] | None = None,
        folder: Path | None = None, threads: int = 1,
    ) -> Child:  # fmt: skip
        """A child that runs the command `arguments`, with the tiny data set and the faults in it."""
        order = next(self._orders)
        stdout, stderr = self.scratch / f"{order}.out", self.scratch / f"{order}.err"
        content = {
            "order": order, "arguments": list(arguments), "faults": [("tiny", {}), *(faults or [])],
            "environment": environment or {}, "folder": str(folder or self.folder), "stdout": str(stdout),
            "stderr": str(stderr), "threads": threads,
        }  # fmt: skip
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(content).encode() + b"\n")
        self._server.stdin.flush()
        answer = self._answer(lambda answer: answer.get("order") == order, PATIENCE_S)
        return Child(self, answer["pid"], stdout, stderr)

    def run(self, *arguments: str, timeout_s: float = PATIENCE_S, **settings: Any) -> tuple[int, str, str]:
        """The same to its end: exit code, stdout, stderr."""
        child = self.start(*arguments, **settings)
        return child.wait(timeout_s), child.out, child.err

    def fit(self, *flags: str, **settings: Any) -> tuple[int, str, str]:
        """`fit` of the tiny net."""
        return self.run("fit", *TINY_FLAGS, *flags, **settings)

    def exit_code(self, pid: int, timeout_s: float) -> int:
        """Waits for a child; one that takes too long is killed, and the test fails."""
        if pid not in self._codes:
            try:
                self._answer(lambda answer: answer.get("pid") == pid and "exit_code" in answer, timeout_s)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
        return self._codes[pid]

    def peek(self, pid: int) -> int | None:
        """A child's exit code if it has ended."""
        try:
            self._answer(lambda answer: answer.get("pid") == pid and "exit_code" in answer, 0.0)
        except TimeoutError:
            return self._codes.get(pid)
        return self._codes[pid]

    def close(self) -> None:
        """Ends the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE_S)

    def _answer(self, is_wanted: Any, timeout_s: float) -> dict[str, Any]:
        assert self._server.stdout is not None
        deadline = time.monotonic() + timeout_s
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                answer = json.loads(line)
                if "exit_code" in answer:
                    self._codes[answer["pid"]] = answer["exit_code"]
                if is_wanted(answer):
                    return answer
                continue
            left = deadline - time.monotonic()
            if not select.select([self._server.stdout], [], [], max(left, 0))[0]:
                if left <= 0:
                    raise TimeoutError("no answer from the child in time")
                continue
            received = os.read(self._server.stdout.fileno(), 65536)
            assert received, "the fork server has died"
            self._buffer += received
