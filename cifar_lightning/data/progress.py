"""What a download shows: a bar for people, two lines for log files."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str], None]


def say(line: str) -> None:
    """The default report: standard error, so that a verb's own output stays clean."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def download_shown(host: str, start_bytes: int, total_bytes: int, report: Report) -> Iterator[Callable[[int], None]]:
    """Give a function to call with every number of bytes received. The end is told only where there was no error."""
    if sys.stderr.isatty():
        with _bar(host, start_bytes, total_bytes) as advance:
            yield advance
        return
    resumed = f", resumed at {megabytes(start_bytes)}" if start_bytes else ""
    report(f"CIFAR-10: downloading {megabytes(total_bytes)} from {host}{resumed}")
    started_at = time.monotonic()
    yield lambda received_bytes: None
    elapsed_s = time.monotonic() - started_at
    rate = megabytes((total_bytes - start_bytes) / max(elapsed_s, 1e-6))
    report(f"CIFAR-10: downloaded from {host} in {elapsed_s:.1f} s ({rate}/s)")


def megabytes(size_bytes: float) -> str:
    """Bytes as people and disks count them: 1 MB = 1,000,000 bytes."""
    return f"{size_bytes / 1e6:.1f} MB"


@contextmanager
def _bar(host: str, start_bytes: int, total_bytes: int) -> Iterator[Callable[[int], None]]:
    # Imported here: rich takes longer to load than everything else that the `data` verb does on valid files.
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.TextColumn("CIFAR-10 from {task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(host, total=total_bytes, completed=start_bytes)
        yield lambda received_bytes: bar.advance(task, received_bytes)
