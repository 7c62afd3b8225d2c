"""From the command to the end of the first training step, in processes of their own."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.measure import interleave, ratio, summary
from benchmarks.workbench import Workbench, find_data
from cifar_lightning.errors import UserError

FIT = (sys.executable, "-m", "cifar_lightning", "fit", "--trainer.max_steps=1", "--final_test=false")
# Both commands leave a stamp: the time in seconds since 1970 and the most GPU memory in bytes.
IMPORTS = """
import sys, time
import torch, torchvision, lightning
with open(sys.argv[1], "w") as file:
    print(repr(time.time()), 0, file=file)
"""
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


class FirstStep(Callback):
    """Writes the stamp to `path` when the first training step has ended."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes after the first batch."""
        if trainer.global_step <= 1:
            on_cuda = pl_module.device.type == "cuda"
            if on_cuda:
                torch.cuda.synchronize()
            now = time.time()
            self.path.write_text(f"{now!r} {torch.cuda.max_memory_allocated() if on_cuda else 0}", encoding="utf-8")


def measure(bench: Workbench) -> dict[str, Any]:
    """Starts both commands in turn, then reads the data set in this process.

    To be called before this process has loaded any data: a child begins as a copy of this process, and its peak memory
    counts that.

    Returns:
        `fit_to_first_step_s`, `imports_s`, their `ratio`, `read_data_s`, `peak_memory_bytes` and
        `peak_gpu_memory_bytes` of `fit`, as summaries.
    """
    stamp = bench.folder / "stamp.txt"
    fit_command = [
        *FIT,
        f"--trainer.accelerator={bench.accelerator}",
        f"--trainer.default_root_dir={bench.folder}",
        f"--trainer.callbacks+={FirstStep.__module__}.{FirstStep.__name__}",
        f"--trainer.callbacks.path={stamp}",
    ]
    fits: list[tuple[float, float, float]] = []

    def timed(command: list[str]) -> tuple[float, float, float]:
        """Seconds from its start to the stamp, the most memory and the most GPU memory in bytes."""
        started_at = time.time()
        peak = run_to_end(command)
        ended_at, gpu_peak = map(float, stamp.read_text(encoding="utf-8").split())
        return ended_at - started_at, peak, gpu_peak

    def fit() -> float:
        fits.append(timed(fit_command))
        return fits[-1][0]

    def imports() -> float:
        return timed([sys.executable, "-c", IMPORTS, str(stamp)])[0]

    def read_data() -> float:
        data = find_data(bench.effort.val_size)
        started_at = time.perf_counter()
        data.setup("fit")
        return time.perf_counter() - started_at

    values = interleave({"fit": fit, "imports": imports}, bench.effort.rounds)
    values |= interleave({"read": read_data}, bench.effort.rounds)
    _, peaks, gpu_peaks = zip(*fits, strict=True)
    return {
        "fit_to_first_step_s": summary(values["fit"]),
        "imports_s": summary(values["imports"]),
        "ratio": ratio(values["fit"], values["imports"]),
        "read_data_s": summary(values["read"]),
        "peak_memory_bytes": summary(peaks),
        "peak_gpu_memory_bytes": summary(gpu_peaks),
    }


def run_to_end(command: list[str]) -> float:
    """Runs a command without its output; returns the most memory that it held at once, in bytes.

    Raises:
        UserError: it failed; with the last line that it wrote.
    """
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, it has the memory of this one child
                process.returncode = os.waitstatus_to_exitcode(status)
            finally:
                process.kill()  # after Ctrl-C: the child must not write into a folder that is going away
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines() or ["no output"]
            raise UserError(f"a measured command failed with exit code {process.returncode}: {lines[-1]}")
    return float(usage.ru_maxrss * MAXRSS_BYTES)
