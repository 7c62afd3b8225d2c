"""The CLI as a script, with a fault in one of its processes; torch is loaded when the verb begins, as ever."""

import sys

from cifar_lightning.cli import VERBS, main

if __name__ == "__main__":
    VERBS["fit"] = ("faults.faulty_fit", "fit", "")
    sys.exit(main(sys.argv[1:]))
