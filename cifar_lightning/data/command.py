"""`python -m cifar_lightning data`: fetch, verify and repair a data set ahead of time, in one line of result."""

from cifar_lightning.data.download import prepare, resolve_root
from cifar_lightning.data.layouts import LAYOUTS
from cifar_lightning.errors import VerbParser


def main(argv: list[str]) -> int:
    """Print what lies where, and how it came there. Returns 0; raises ConfigError, DataError or OutputError."""
    parser = VerbParser(
        "data",
        "Fetch CIFAR-10 or CIFAR-100 (170 MB each); verify and repair the copy that is there.",
        "CIFAR10_MIRROR=<url, file or folder of the archive> is asked instead of the known mirrors; of CIFAR-100 it is "
        "CIFAR100_MIRROR.",
    )
    parser.add_argument(
        "--root", "--data.root", metavar="DIR",
        help="the folder that holds, or is to hold, cifar-10-batches-py (default: $CIFAR10_ROOT, else data) or "
        "cifar-100-python (default: $CIFAR100_ROOT, else data)",
    )  # fmt: skip
    parser.add_argument("--dataset", "--data.dataset", choices=LAYOUTS, default="cifar10", help="which one")
    options = parser.parse(argv)
    layout = LAYOUTS[options.dataset]
    root = resolve_root(options.root, layout)
    story = prepare(root, download=True, full_check=True, layout=layout)
    print(
        f"{layout.name}: {layout.train_images:,} training and {layout.test_images:,} test images in "
        f"{(root.path / layout.folder).absolute()} ({len(layout.files)} files, MD5 verified), {story}"
    )
    return 0
