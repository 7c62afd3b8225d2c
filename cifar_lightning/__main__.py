"""`python -m cifar_lightning VERB ...`: hands the arguments to the CLI, nothing else."""

import sys

from cifar_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
