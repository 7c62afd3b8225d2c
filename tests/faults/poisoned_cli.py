"""The CLI as a script, whose second process has a bad gradient at its fourth step, after they were averaged."""

import os
import sys

from faults.injections import poison

from cifar_lightning.cli import main

if __name__ == "__main__":
    if os.environ.get("LOCAL_RANK", "0") == "1":
        poison(3, "gradient")
    sys.exit(main(sys.argv[1:]))
