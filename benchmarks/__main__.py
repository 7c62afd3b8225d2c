"""`python -m benchmarks NAME ...` runs one benchmark; without a name it lists them."""

import importlib
import signal
import sys

from cifar_lightning import process
from cifar_lightning.errors import ConfigError, UserError, did_you_mean
from cifar_lightning.process import silence_known_warnings

# Each name is that of a module here whose `main` takes the arguments and returns the exit code.
BENCHMARKS = {
    "bench": "this machine: start-up, data path, training and overhead, each beside a comparison",
    "speed": "accuracy and time of a speed recipe over its seeds, beside a rival's training",
    "rivals": "the seconds of one rival's training, as `speed` times it",
    "race": "validation accuracy against seconds of training, as a figure",
    "trials": "a change of a speed recipe, tried on the validation split and kept on record",
    "prototype": "the same for what `fit` has no flag for, as a bare loop",
    "ablation": "what each part of a speed recipe adds to its accuracy",
    "augmentation": "what each augmentation adds to a training step",
    "convolution": "what a step on a CPU gains by the package's own convolutions",
    "precision": "whether bf16 costs accuracy",
    "flops": "floating point operations of the recipes",
    "predict": "the stages of `predict`, and the net in its exported forms",
    "guard": "what the guard against non-finite numbers costs at each step",
    "runner": "what a run costs beside its own time: local processes, and Ray on simulated nodes",
    "many_nodes": "measures nothing: simulates 1,000 runs of the recorded durations on 64 nodes",
    "fault_matrix": "the fault matrix at its full counts",
    "gpu_day": "all that no CPU can show, on one GPU in forty minutes, piece by piece",
    "guests": "which callbacks, loggers and flags of Lightning `fit` works with",
    "search": "what a search costs beside plain Optuna, and what pruning saves",
    "ladder": "measures nothing: draws every recipe and its rivals, seconds against accuracy",
    "tables": "measures nothing: writes the tables in README.md and docs/ from results/",
    "make_sample": "measures nothing: writes the sample in the package from the official files",
    "make_pretrained": "measures nothing: writes the trained weights in the package from two runs",
}


def main(argv: list[str]) -> int:
    """Runs one benchmark.

    Returns:
        The exit code: 0 done, that of a `UserError`, 130 after Ctrl-C, 143 after SIGTERM.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [flags]     (NAME --help lists the flags)\n")
        print("\n".join(f"  {name:<17}{summary}" for name, summary in BENCHMARKS.items()))
        return 0
    name, *rest = argv
    # Without a handler SIGTERM would leave temporary folders and processes behind.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    # Before torch is imported, as `fit` does.
    process.keep_freed_memory()
    silence_known_warnings()
    try:
        if name not in BENCHMARKS:
            raise ConfigError(
                f"unknown benchmark {name!r}{did_you_mean(name, BENCHMARKS)}; there are: {', '.join(BENCHMARKS)}"
            )
        return importlib.import_module(f"benchmarks.{name}").main(rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
