"""The least effort of a benchmark that still measures everything."""

from cifar_lightning.bench.effort import Effort

TINY = Effort(
    startup_rounds=1,
    matrix_sides=(8,),
    matrix_rows=16,
    matrix_repeats=2,
    matrix_s=1e-5,
    data_rounds=2,
    data_s=1e-3,
    worker_counts=(0,),
    batch_sizes=(8,),
    training_rounds=1,
    training_s=1e-3,
    warmup_steps=1,
    overhead_rounds=2,
    overhead_steps=3,
    own_processes=False,
    val_size=20,
    startup_flags=(
        "--data.synthetic=true",
        "--model.net.channels=[4,4,8]",
        "--model.net.hidden_features=[8,8]",
        "--trainer.enable_progress_bar=false",
    ),
)
