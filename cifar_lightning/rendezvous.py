"""How the processes of one run meet before they train, and how they end together, with one error line.

torch's process group waits in C++, where no signal handler of Python's runs and no error arrives. So the processes meet
first, in a key-value store at MASTER_ADDR and MASTER_PORT: there they compare what they are about to run, and there the
error of one reaches the others.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch._C._distributed_c10d import PrefixStore, TCPStore  # typed here alone

from cifar_lightning import process
from cifar_lightning.errors import UserError

MEET_S = 1800.0  # how long a process waits for the others
NOTICE_S = 20.0  # after which time it prints that it waits
TELL_S = 20.0  # how long a failed process tries to reach the others, and waits until they have ended
FIND_LOST_S = 5.0  # how long it takes to find out which process was killed
POLL_S = 0.05
STORE_TIMEOUT = timedelta(seconds=300)  # of a read; what is read has been written already
CONNECTION_ERRORS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")  # in torch's messages
HOST = socket.gethostname()
PID_NAMESPACE = "/proc/self/ns/pid"
# Process numbers mean something to processes of the same machine and container only.
PID_SCOPE = [HOST, os.readlink(PID_NAMESPACE) if os.path.islink(PID_NAMESPACE) else ""]


class OtherRankError(UserError):
    """Another process failed, is gone or runs something else. Every process of the run comes to the same text.

    Args:
        line: the text.
        exit_code: of the run.
        lost: the rank that is gone, if one is.
    """

    def __init__(self, line: str, exit_code: int, lost: int | None = None) -> None:
        super().__init__(line)
        self.exit_code, self.lost = exit_code, lost


class SlurmStep(SLURMEnvironment):
    """The tasks of one srun, without Lightning's own requeueing: a signal saves and ends, as everywhere."""

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)
        os.environ.setdefault("MASTER_ADDR", self.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"]))

    def world_size(self) -> int:
        """The tasks of the step; Lightning takes those of the job."""
        return int(os.environ["SLURM_STEP_NUM_TASKS"])

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Nothing to check: both follow from the step."""


def cluster_environment() -> ClusterEnvironment:
    """Lightning's view of who started this process. Named, since Lightning would guess it from left-over variables."""
    launcher = process.launcher()
    if launcher is None:
        return LightningEnvironment()
    return TorchElasticEnvironment() if launcher.name == "torchrun" else SlurmStep()


class RendezvousDDP(DDPStrategy):
    """Lightning's DDP, whose processes meet before they join the process group.

    `common` is what must be the same in all of them: by its name, a text that is compared.
    """

    common: dict[str, str] = {}  # noqa: RUF012 -- replaced as a whole

    def setup_distributed(self) -> None:
        """Meets the other processes, then joins their group."""
        environment = self.cluster_environment
        if environment is not None and not dist.is_initialized():
            self.set_world_ranks()
            os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
            assert isinstance(self._launcher, _SubprocessScriptLauncher)
            _rendezvous.children = self._launcher.procs
            store = _rendezvous.meet(self.global_rank, self.world_size, self.common)
            backend = self._get_process_group_backend()
            device = self.root_device if self.root_device.type != "cpu" else None
            # With a store of its own: torch would find the keys of an earlier attempt in that of torchrun.
            with process.default_signals():
                dist.init_process_group(
                    backend, timeout=self._timeout, store=PrefixStore("torch", store), rank=self.global_rank,
                    world_size=self.world_size, device_id=device,
                )  # fmt: skip
            if backend == "nccl":
                atexit.register(dist.destroy_process_group)
        super().setup_distributed()


# By default DDP sorts its buckets anew after the first step. The buckets decide in which order more than two processes
# add up a gradient, and a resumed run has a first step once more: with this setting they stay, and so do the bits.
StrategyRegistry.register(
    "ddp", RendezvousDDP, "DDP whose processes meet first", override=True, find_unused_parameters=True
)


class _Rendezvous:
    """What this process knows of the others, and the store where it meets them."""

    def __init__(self) -> None:
        self.members: list[dict[str, Any]] = []  # by rank, once all have met
        self.children: list[subprocess.Popen[bytes]] = []  # started by Lightning in this process
        self.parent = os.getppid()
        self.world_size = found.world_size if (found := process.launcher()) else 0  # 0: not known yet
        self._store: PrefixStore | None = None

    def store(self, limit_s: float = TELL_S) -> PrefixStore:
        """The store. Keys of an earlier attempt of torchrun are out of sight.

        Raises OSError or torch's DistError: nobody provides it within `limit_s`.
        """
        if self._store is None:
            address, port = os.environ.get("MASTER_ADDR", ""), int(os.environ.get("MASTER_PORT", 0))
            provides_it = process.is_rank_zero() and not process.has_agent_store()
            until = time.monotonic() + limit_s
            if not (address and port):
                raise ConnectionError("MASTER_ADDR and MASTER_PORT are not set")
            while not provides_it:  # here, since each failed attempt of torch's own prints a warning
                try:
                    socket.create_connection((address, port), timeout=2.0).close()
                    break
                except OSError:
                    if time.monotonic() > until or self.is_orphan:
                        raise
                    time.sleep(POLL_S * 4)
            store = TCPStore(
                address, port, is_master=provides_it, wait_for_workers=False, multi_tenant=True, timeout=STORE_TIMEOUT
            )
            self._store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", ""), store)
        return self._store

    @property
    def is_orphan(self) -> bool:
        """Whether Lightning started this process from one that has ended, and has said why."""
        is_child = process.launcher() is None and os.environ.get("LOCAL_RANK", "0") != "0"
        return is_child and os.getppid() != self.parent

    def meet(self, rank: int, world_size: int, common: dict[str, str]) -> PrefixStore:
        """Waits for all other processes, and compares. A signal ends it, since it waits in Python.

        Returns the store.

        Raises OtherRankError: a process fails, does not come, or is about to run something else.
        """
        self.world_size, started = world_size, time.monotonic()
        keys, is_silent = [f"here/{number}" for number in range(world_size)], rank > 0
        try:
            store = self.store(MEET_S)
            own = {"scope": PID_SCOPE, "host": HOST, "pid": os.getpid(), "common": common}
            store.set(keys[rank], json.dumps(own))
            while not store.check(keys):
                waited = time.monotonic() - started
                if store.check(["failure"]):
                    raise OtherRankError(**json.loads(store.get("failure")))
                if waited > MEET_S or self.is_orphan:
                    raise ConnectionError(f"some did not come within {MEET_S:.0f} s")
                if waited > NOTICE_S and not is_silent:
                    present, is_silent = sum(store.check([key]) for key in keys), True
                    print(f"waiting for the other processes: {present} of {world_size} are here", flush=True)
                time.sleep(POLL_S)
            self.members = [json.loads(store.get(key)) for key in keys]
        except (dist.DistError, OSError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise OtherRankError(f"the processes cannot meet at {where}: {' '.join(str(error).split())}", 1) from error
        first = self.members[0]
        for number, member in enumerate(self.members):
            for name, value in first["common"].items():
                if member["common"].get(name) != value:
                    ranks = f"rank {number} on {member['host']} and rank 0 on {first['host']}"
                    raise OtherRankError(f"{ranks} differ in their {name}", 4 if name == "checkpoint" else 2)
        return store

    def end(self, error: BaseException, line: str, exit_code: int, say: Callable[[str], object]) -> int:
        """Ends this process after `error` together with all others. One of them prints: rank 0 where it lives.

        Args:
            error: what happened in this process.
            line: the same for the user.
            exit_code: of this process, if it ended alone.
            say: prints a line.

        Returns:
            The exit code, the same in all processes.
        """
        rank, speaker = process.rank(), 0
        earlier = process.handle_signals(signal.SIG_IGN)  # torchrun sends one as soon as one process has ended
        failure: dict[str, Any] = {"line": line, "exit_code": exit_code, "lost": None}
        named = failure | {"line": f"rank {rank} on {HOST}: {line}"} if rank else failure
        try:
            if self.members and isinstance(error, RuntimeError) and any(text in line for text in CONNECTION_ERRORS):
                failure = self._find_lost(failure)
                speaker = min(self._members_here(alive=True), default=rank) if failure["lost"] == 0 else 0
            elif not isinstance(error, OtherRankError) and not self.is_orphan:
                was_told = isinstance(error, (SystemExit, KeyboardInterrupt))
                store = self.store(0.0 if was_told else TELL_S)
                told = json.loads(store.compare_set("failure", "", json.dumps(named)))
                if was_told:  # by torchrun, because another process failed: that is the failure to report
                    failure = told
        except (dist.DistError, OSError):  # nobody can be reached
            speaker, failure = rank, named
        if rank == speaker:
            say(failure["line"])
        for signum in earlier:
            signal.signal(signum, signal.SIG_DFL)
        process.remove_scratch_folders()  # its exit may come too late for that: it is killed when others have ended
        with contextlib.suppress(dist.DistError, OSError):
            self._wait_for_others(self.world_size - (failure["lost"] is not None))
        process.handle_signals(signal.SIG_IGN)  # of a launcher that sees another process end: the exit code counts too
        return int(failure["exit_code"])

    def _wait_for_others(self, count: int) -> None:
        """Until `count` processes have come here: torchrun, and Lightning, kill all others when one has ended."""
        children = list(self.children)
        self.children.clear()  # nothing left for Lightning's observer, which would kill this process as well
        if dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()  # wakes those who wait for this one
        until = time.monotonic() + TELL_S
        self.store(0.0).add("ended", 1)
        while time.monotonic() < until and not self.is_orphan and not 0 < count <= self.store().add("ended", 0):
            time.sleep(POLL_S)
        for child in children:
            child.kill()

    def _members_here(self, alive: bool) -> list[int]:
        """The ranks on this machine whose processes live, or do not."""
        here = [(number, member["pid"]) for number, member in enumerate(self.members) if member["scope"] == PID_SCOPE]
        return [number for number, pid in here if _is_alive(pid) == alive]

    def _find_lost(self, failure: dict[str, Any]) -> dict[str, Any]:
        """Names the process that is gone: one of this machine, or what a process of its machine has found."""
        until = time.monotonic() + FIND_LOST_S
        while time.monotonic() < until:
            lost = self._members_here(alive=False)[:1]
            try:
                if self.store().check(["failure"]):
                    return dict(json.loads(self.store().get("failure")))
            except (dist.DistError, OSError):  # the store is gone, with rank 0
                lost = [0]
            if lost:
                where = f"rank {lost[0]} on {self.members[lost[0]]['host']}"
                line = f"{where} was killed or has ended; go on from the last checkpoint with --ckpt last"
                failure = {"line": line, "exit_code": 1, "lost": lost[0]}
                with contextlib.suppress(dist.DistError, OSError):
                    self.store().compare_set("failure", "", json.dumps(failure))
                return failure
            time.sleep(POLL_S)
        return failure | {"line": f"the connection to another process is lost: {failure['line']}"}


_rendezvous = _Rendezvous()
end = _rendezvous.end


def remember(checkpoint: Path) -> None:
    """Leaves the path of the run's last checkpoint with torchrun, for the processes that it may start anew."""
    if process.has_agent_store():
        _rendezvous.store().underlying_store.set("checkpoint", str(checkpoint.resolve()))


def interrupted_checkpoint() -> Path | None:
    """The last checkpoint of the run that torchrun has started anew; None where there is none."""
    if not process.has_agent_store() or os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        return None
    store = _rendezvous.store().underlying_store
    path = Path(store.get("checkpoint").decode()) if store.check(["checkpoint"]) else None
    return path if path and path.is_file() else None


def _is_alive(pid: int) -> bool:
    """Whether it runs; a process that its parent has not waited for does not. Without /proc nothing is known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return not Path("/proc/self").exists()
