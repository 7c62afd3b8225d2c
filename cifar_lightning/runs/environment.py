"""The machine and the code under a run: hardware and its native precision, versions, commit."""

import hashlib
import os
import platform
import subprocess
import timeit
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from cifar_lightning.errors import ConfigError

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "tensorboard", "jsonargparse", "numpy")


def accelerator_of(flag: str) -> str:
    """'cpu', 'cuda' or 'mps' for a Trainer's accelerator. Raises ConfigError for a GPU that is not there."""
    if flag in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if flag in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    if flag not in ("auto", "cpu"):
        raise ConfigError(f"trainer.accelerator {flag}: none is found here; auto takes what is there")
    return "cpu"


def native_precision(accelerator: str) -> str:
    """The Trainer precision for 'cpu', 'cuda' or 'mps' where none is given.

    'bf16-mixed' where the hardware multiplies bf16 faster: on CUDA capability 8.0 and up, on Apple's GPU from macOS 14
    on, and on a CPU where a convolution is at least 1.2 times as fast (tried in a tenth of a second); else '32-true'.
    """
    if accelerator == "cuda":
        native = torch.cuda.get_device_capability() >= (8, 0)
    elif accelerator == "mps":
        native = torch.backends.mps.is_macos_or_newer(14, 0)
    else:
        # Measured, since a feature's name says little: with AVX-512 BF16 but no AMX, Intel's bf16 is slower than its
        # float32, and oneDNN may be limited to AVX2, where it takes 30 times as long. Ratios lie far from this one.
        native = 1.2 * _convolution_s(torch.bfloat16) < _convolution_s(torch.float32)
    return "bf16-mixed" if native else "32-true"


def place(hardware: dict[str, Any]) -> str:
    """Where a run computed, from its `hardware`: the GPU, else `2 threads of` the CPU."""
    threads = f"{hardware['threads']} thread{'s' if hardware['threads'] != 1 else ''}"
    return str(hardware.get("gpu") or f"{threads} of {hardware['cpu']}")


def hardware(accelerator: str) -> dict[str, Any]:
    """Names and sizes that explain a speed, a GPU's where `accelerator` is 'cuda'; no name of the host."""
    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if accelerator == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    """Python and every package that a number can depend on."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def fingerprint(device: torch.device, devices: int) -> dict[str, Any]:
    """What the numbers of a training on `devices` devices depend on to the last bit beside its configuration."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "devices": devices,
        "threads": torch.get_num_threads(),
        "cpu": _cpu_name(),
        "torch": version("torch"),
    }


def commit() -> dict[str, Any]:
    """The commit of the package's source and whether the tree differed from it; None for both outside of git."""
    folder = Path(__file__).parent
    head = _git(folder, "rev-parse", "HEAD")
    # What runs leave behind for others to read changes no run.
    status = _git(folder.parents[1], "status", "--porcelain", "--", ":/", ":(exclude)results")  # beside the package
    # An installed copy may lie inside of somebody else's repository: only a tracked source has a commit of its own.
    if head is None or not _git(folder, "ls-files", "--error-unmatch", "environment.py"):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": None if status is None else bool(status)}


def package_digest(folder: Path = Path(__file__).parent.parent) -> str:
    """Twelve hex digits of a SHA-256 over the package's source, without what reads runs and takes no part in them.

    `study`, `runner`, `bench` and `inference` may change as they like: a run's numbers do not depend on them.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if name.parts[0] not in ("study", "runner", "bench", "inference"):
            content = path.read_bytes()
            digest.update(f"{name.as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:12]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _convolution_s(dtype: torch.dtype) -> float:
    """The seconds of a small convolution in `dtype` on one thread, which other programs disturb least."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shapes = ((8, 64, 16, 16), (64, 64, 3, 3))
    images, weight = (torch.ones(shape, dtype=dtype).to(memory_format=torch.channels_last) for shape in shapes)
    best = min(timeit.repeat(lambda: F.conv2d(images, weight, padding=1), number=1, repeat=8))
    torch.set_num_threads(threads)
    return best


def _cpu_name() -> str:
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())
