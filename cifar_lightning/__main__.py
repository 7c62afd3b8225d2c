"""`python -m cifar_lightning VERB ...` and the command `cifar-lightning`: hand the arguments to the CLI."""

import sys

from cifar_lightning.cli import main


def run() -> int:
    """Runs the verb that was typed; returns the exit code."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
