"""From the command to the end of the first training step, in processes of their own."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_lightning.bench.measure import interleave, ratio, summary
from cifar_lightning.bench.workbench import Workbench, find_data
from cifar_lightning.errors import UserError

FIT, IMPORTS = "fit until its first step", "importing torch, torchvision and lightning"
IMPORT_AND_STAMP = """
import sys, time
import torch, torchvision, lightning
with open(sys.argv[1], "w") as file:
    print(repr(time.time()), file=file)
"""
PACKAGE_ROOT = Path(__file__).parents[2]
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


class FirstStep(Callback):
    """Notes when the first training step has ended, and the GPU memory that it took.

    Args:
        path: of the file that is written: the time in seconds since 1970, and the most GPU memory in bytes, 0 on a CPU.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes the file after the first batch."""
        if trainer.global_step <= 1:
            on_cuda = pl_module.device.type == "cuda"
            if on_cuda:
                torch.cuda.synchronize()
            now = time.time()
            self.path.write_text(f"{now!r} {torch.cuda.max_memory_allocated() if on_cuda else 0}", encoding="utf-8")


def measure(bench: Workbench) -> dict[str, Any]:
    """Starts both commands in turn, then reads the data set in this process.

    To be called before this process has loaded any data: a child's peak memory counts what it was before it became
    another program, a copy of this one.

    Returns:
        `fit_to_first_step_s`, `imports_s`, their `ratio`, `read_data_s`, `peak_memory_bytes` and
        `peak_gpu_memory_bytes` of `fit`, as summaries.
    """
    rounds = bench.effort.startup_rounds
    peaks: list[float] = []
    gpu_peaks: list[float] = []

    def fit() -> float:
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            stamp = Path(folder) / "first_step.txt"
            started_at = time.time()
            peaks.append(run_to_end(fit_command(bench, Path(folder), stamp)))
            ended_at, gpu_peak = map(float, stamp.read_text(encoding="utf-8").split())
        gpu_peaks.append(gpu_peak)
        return ended_at - started_at

    def imports() -> float:
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            stamp = Path(folder) / "imported.txt"
            started_at = time.time()
            run_to_end([sys.executable, "-c", IMPORT_AND_STAMP, str(stamp)])
            return float(stamp.read_text(encoding="utf-8")) - started_at

    values = interleave({FIT: fit, IMPORTS: imports}, rounds, bench.watch)
    reads = interleave({"reading the data set": _reader(bench)}, rounds, bench.watch)
    return {
        "fit_to_first_step_s": summary(values[FIT]),
        "imports_s": summary(values[IMPORTS]),
        "ratio": ratio(values[FIT], values[IMPORTS]),
        "read_data_s": summary(reads["reading the data set"]),
        "peak_memory_bytes": summary(peaks),
        "peak_gpu_memory_bytes": summary(gpu_peaks),
    }


def fit_command(bench: Workbench, folder: Path, stamp: Path) -> list[str]:
    """The `fit` of one step that writes `stamp`."""
    return [
        sys.executable, "-m", "cifar_lightning", "fit", "--trainer.max_steps=1", "--final_test=false",
        f"--trainer.accelerator={bench.accelerator}", f"--trainer.default_root_dir={folder}",
        f"--trainer.callbacks+={FirstStep.__module__}.{FirstStep.__name__}", f"--trainer.callbacks.path={stamp}",
        *bench.effort.startup_flags,
    ]  # fmt: skip


def run_to_end(command: list[str]) -> float:
    """Runs a command without its output.

    Returns:
        The most memory that it held at once, in bytes.

    Raises:
        UserError: it failed; with the last line that it wrote.
    """
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, it tells the resources of this one child
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:  # Ctrl-C: the child must not write into a folder that is going away
            process.kill()
            process.wait()
            raise
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines() or ["no output"]
            raise UserError(f"a measured command failed with exit code {process.returncode}: {lines[-1]}")
    return float(usage.ru_maxrss * MAXRSS_BYTES)


def _reader(bench: Workbench) -> Callable[[], float]:
    def read() -> float:
        data = find_data(bench.effort.val_size)
        started_at = time.perf_counter()
        data.setup("fit")
        return time.perf_counter() - started_at

    return read
