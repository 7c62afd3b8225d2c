"""`python -m cifar_lightning data`: fetch, verify and repair CIFAR-10 ahead of time, in one line of result."""

from cifar_lightning.data.download import CIFAR10, FOLDER, Layout, prepare, resolve_root
from cifar_lightning.errors import VerbParser


def main(argv: list[str], layout: Layout = CIFAR10) -> int:
    """Print what lies where, and how it came there. Returns 0; raises ConfigError, DataError or OutputError."""
    parser = VerbParser(
        "data",
        "Fetch CIFAR-10 (170 MB); verify and repair the copy that is there.",
        "CIFAR10_MIRROR=<url, file or folder of the archive> is asked instead of the known mirrors.",
    )
    parser.add_argument(
        "--root", "--data.root", metavar="DIR",
        help="the folder that holds, or is to hold, cifar-10-batches-py (default: $CIFAR10_ROOT, else data)",
    )  # fmt: skip
    root = resolve_root(parser.parse(argv).root)
    story = prepare(root, download=True, full_check=True, layout=layout)
    print(
        f"CIFAR-10: {layout.train_images:,} training and {layout.test_images:,} test images in "
        f"{(root.path / FOLDER).absolute()} ({len(layout.files)} files, MD5 verified), {story}"
    )
    return 0
