"""The least effort of a benchmark that still measures everything."""

from benchmarks.workbench import Effort

TINY = Effort(
    rounds=1,
    seconds=1e-3,
    worker_counts=(0,),
    batch_sizes=(8,),
    warmup_steps=1,
    overhead_rounds=2,
    overhead_steps=3,
    own_processes=False,
    val_size=20,
)
