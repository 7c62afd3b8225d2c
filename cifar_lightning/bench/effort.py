"""How long a benchmark measures: rounds, spans and sizes, in one place."""

import os
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Effort:
    """What a benchmark may cost.

    Args:
        startup_rounds: how often the commands are started.
        matrix_sides: sides of the square products; each is also one shape among those of which the best counts.
        matrix_rows: rows of the tall product, as many as a convolution has output pixels in a batch.
        matrix_repeats: how often each shape is timed.
        matrix_s: seconds of products in each repeat, at least.
        data_rounds: how often each data path is timed.
        data_s: seconds of batches in each of them, at least.
        worker_counts: numbers of DataLoader workers of which the best counts.
        batch_sizes: images per training step.
        training_rounds: how often each training is timed.
        training_s: seconds of steps in each of them, for the bare loop; the others take the same steps.
        warmup_steps: steps before the clock starts.
        overhead_rounds: how often each loop over the one-layer net is timed.
        overhead_steps: steps in each of them.
        own_processes: whether each training has a process to itself, as it must to compare with scripts.
        val_size: images that validate, as in `fit`.
        startup_flags: further flags of the `fit` that is started; a true benchmark has none.
    """

    startup_rounds: int
    matrix_sides: tuple[int, ...]
    matrix_rows: int
    matrix_repeats: int
    matrix_s: float
    data_rounds: int
    data_s: float
    worker_counts: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    training_rounds: int
    training_s: float
    warmup_steps: int
    overhead_rounds: int
    overhead_steps: int
    own_processes: bool = True
    val_size: int = 5000
    startup_flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For the JSON."""
        return asdict(self)


_CORES = os.cpu_count() or 1

FULL = Effort(
    startup_rounds=5,
    matrix_sides=(1024, 2048, 4096),
    matrix_rows=2**17,
    matrix_repeats=5,
    matrix_s=0.2,
    data_rounds=5,
    data_s=1.0,
    worker_counts=tuple(sorted({0, 1, 2, _CORES, 2 * _CORES})),
    batch_sizes=(30, 128, 512),
    training_rounds=5,
    training_s=1.5,
    warmup_steps=5,
    overhead_rounds=9,
    overhead_steps=1000,
)

# In one process: the scripts have our settings of memory too, and come out better than they are.
QUICK = Effort(
    startup_rounds=1,
    matrix_sides=(1024, 2048),
    matrix_rows=2**15,
    matrix_repeats=3,
    matrix_s=0.05,
    data_rounds=2,
    data_s=0.5,
    worker_counts=(0, 2),
    batch_sizes=(30, 512),
    training_rounds=1,
    training_s=0.5,
    warmup_steps=2,
    overhead_rounds=3,
    overhead_steps=200,
    own_processes=False,
)
