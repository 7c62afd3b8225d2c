"""The CLI as a script, whose second process vanishes in its third step, as one that the kernel kills."""

import os
import sys

from faults.injections import at

from cifar_lightning.cli import main

if __name__ == "__main__":
    if os.environ.get("LOCAL_RANK", "0") == "1":
        at("on_train_batch_start", 2, "exit")
    sys.exit(main(sys.argv[1:]))
