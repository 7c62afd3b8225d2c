"""What goes wrong in a child, and what makes it small. Each function is called by name, before the command runs."""

import atexit
import contextlib
import ctypes
import dataclasses
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from data.official_format import TINY, tiny_dataset
from lightning.pytorch import Callback
from matplotlib.figure import Figure

from cifar_lightning.classifier import Classifier
from cifar_lightning.data import download, layouts
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.runs import atomic, figures
from cifar_lightning.training.callbacks import checkpoint, nan_guard

TINY_TRAINED = tiny_dataset(images_per_batch=12)  # 60 training and 12 test images


def tiny() -> None:
    """Makes the data module read the tiny data set, and draws nothing, which would take longer than the training."""
    layouts.LAYOUTS["cifar10"] = TINY_TRAINED.layout
    for figure in ("sample_grid", "curves", "confusion", "worst_mistakes"):
        setattr(figures, figure, lambda *arguments, **settings: Figure(figsize=(1, 1)))


def save_every_step() -> None:
    """In place of every five minutes."""
    checkpoint.SAVE_EVERY_S = 0.0


def at(hook: str, step: int, deed: str, times: int = 1, mark: str = "") -> None:
    """In `hook` of the classifier, when `step` optimizer steps are done: a deed, such as a signal, so many times."""
    before: Callable[..., Any] = getattr(Classifier, hook)
    done: list[int] = []

    def hooked(self: Classifier, *arguments: Any, **settings: Any) -> Any:
        is_there = self.trainer.state.fn == "test" or self.trainer.global_step == step
        if is_there and len(done) < times:
            done.append(step)
            DEEDS[deed](mark)
        return before(self, *arguments, **settings)

    setattr(Classifier, hook, hooked)


def _die(signum: int) -> Callable[[str], None]:
    def deed(mark: str) -> None:
        os.kill(os.getpid(), signum)
        if signum == signal.SIGKILL:
            time.sleep(60)

    return deed


def _wait(mark: str) -> None:
    Path(mark).touch()
    while Path(mark).exists():
        time.sleep(0.002)


def _raise(error: Callable[[], BaseException]) -> Callable[[str], None]:
    def deed(mark: str) -> None:
        raise error()

    return deed


def _fill(mark: str) -> None:
    """A disk that other people fill: the folder of `mark` has no byte left."""
    with Path(mark).open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def _limit_file_size(mark: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def _remember(mark: str) -> None:
    Path(mark).touch()


DEEDS: dict[str, Callable[[str], None]] = {
    "kill": _die(signal.SIGKILL),
    "int": _die(signal.SIGINT),
    "term": _die(signal.SIGTERM),
    "hup": _die(signal.SIGHUP),
    "usr1": _die(signal.SIGUSR1),
    "usr2": _die(signal.SIGUSR2),
    "wait": _wait,
    "mark": _remember,
    "fill": _fill,
    "no big files": _limit_file_size,
    "out of memory": _raise(lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")),
    "memory error": _raise(MemoryError),
    "exit": lambda mark: os._exit(7),
}


def in_reading_data(deed: str, mark: str = "") -> None:
    """Before there is a run: while the data set is read."""
    setup = CIFAR10DataModule.setup

    def read(self: CIFAR10DataModule, stage: str) -> None:
        DEEDS[deed](mark)
        setup(self, stage)

    CIFAR10DataModule.setup = read  # type: ignore[method-assign]


SAVE_PLACES = ("opened", "half written", "before the move", "after the move")


def in_save(number: int, place: str, name: str = "last.ckpt", deed: str = "kill") -> None:
    """In the save of `name` with this number, from 0, at this place of it: a deed."""
    seen: list[int] = []
    real_replace, real_open = os.replace, Path.open

    def is_now(path: Any) -> bool:
        return Path(path).name.removeprefix(".").startswith(name) and len(seen) == number

    def opened(self: Path, mode: str = "r", *arguments: Any, **settings: Any) -> Any:
        file = real_open(self, mode, *arguments, **settings)
        if mode == "wb" and is_now(self):
            if place == "opened":
                DEEDS[deed]("")
            if place == "half written":
                return _HalfWritten(file, deed)
        return file

    def replace(source: Any, target: Any) -> None:
        if place == "before the move" and is_now(target):
            DEEDS[deed]("")
        real_replace(source, target)
        if is_now(target) and place == "after the move":
            DEEDS[deed]("")
        if Path(target).name == name:
            seen.append(1)

    Path.open = opened  # type: ignore[method-assign, assignment]
    atomic.os.replace = replace  # type: ignore[attr-defined]


class _HalfWritten:
    def __init__(self, file: Any, deed: str) -> None:
        self.file, self.deed = file, deed

    def __enter__(self) -> "_HalfWritten":
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()

    def write(self, content: Any) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        DEEDS[self.deed]("")
        self.file.write(content[len(content) // 2 :])

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()


def poison(step: int, what: str, stays: bool = False) -> None:
    """Makes the loss or a gradient of one step not a number, or of all from then on."""
    whole_step, after = Classifier.training_step, Classifier.on_after_backward

    def is_now(self: Classifier) -> bool:
        return self.global_step >= step if stays else self.global_step == step

    def training_step(self: Classifier, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        if what == "images" and is_now(self):
            images = images * float("nan")
        loss = whole_step(self, (images, labels), batch_idx)
        return loss + float("inf") if what == "loss" and is_now(self) else loss  # whose gradient is what it was

    def on_after_backward(self: Classifier) -> None:
        after(self)
        if what == "gradient" and is_now(self):
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            gradients[-1].view(-1)[0] = float("-inf")

    Classifier.training_step = training_step  # type: ignore[method-assign]
    Classifier.on_after_backward = on_after_backward  # type: ignore[method-assign]


def as_on_a_gpu() -> None:
    """The guard masks updates and reads its flag later, as it does where reading waits."""
    nan_guard.is_read_at_once = lambda device: False


def without_guard() -> None:
    """Nobody looks at loss and gradients."""
    nan_guard.NanGuard.on_before_optimizer_step = Callback.on_before_optimizer_step  # type: ignore[method-assign]


def keep_weights(path: str) -> None:
    """Writes the weights as they are when the training fails."""
    from cifar_lightning.training.callbacks.learning_curves import LearningCurves

    def on_exception(self: Any, trainer: Any, module: Any, error: BaseException) -> None:
        torch.save({name: value.clone() for name, value in module.net.named_parameters()}, path)

    LearningCurves.on_exception = on_exception  # type: ignore[method-assign]


def small_downloads(mirrors: list[str]) -> None:
    """The mirrors that are known, and less patience with them."""
    download.MIRRORS = tuple(mirrors)
    download.ANSWER_S, download.READ_TIMEOUT_S = 20.0, 2.0


def layout_of_archive(md5: str) -> None:
    """An archive with this digest is the right one, whatever it holds."""
    layouts.LAYOUTS["cifar10"] = dataclasses.replace(TINY_TRAINED.layout, archive_md5=md5)


def small_disk(folder: str, mib: int, copy: str) -> None:
    """Mounts a file system of its own at `folder`, as nobody else sees it; at the end its content goes to `copy`."""
    _own_mounts()
    Path(folder).mkdir(exist_ok=True)
    _mount("tmpfs", folder, "tmpfs", 0, f"size={mib}m")
    atexit.register(shutil.copytree, folder, copy)


def read_only(folder: str) -> None:
    """Makes a folder read-only for this process, root included."""
    _own_mounts()
    _mount(os.path.abspath(folder), folder, "", MS_BIND, "")
    _mount(folder, folder, "", MS_BIND | MS_REMOUNT | MS_RDONLY, "")


CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096


def _own_mounts() -> None:
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise SystemExit("mounts are not permitted here")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (source.encode(), os.path.abspath(target).encode(), kind.encode(), flags, options.encode())
    if libc.mount(*arguments):
        raise SystemExit(f"mounting is not permitted here: {os.strerror(ctypes.get_errno())}")


def no_network() -> None:
    """Whoever opens a connection fails loudly."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError("something has asked the network")

    socket.socket.connect = refuse  # type: ignore[method-assign, assignment]


def start_together(mark: str) -> None:
    """Waits until the mark is there."""
    while not Path(mark).exists():
        time.sleep(0.002)


__all__ = ["DEEDS", "SAVE_PLACES", "TINY", "TINY_TRAINED"]
