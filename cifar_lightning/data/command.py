"""`python -m cifar_lightning data`: fetch, verify and repair CIFAR-10 ahead of time, in one line of result."""

import argparse
from typing import NoReturn

from cifar_lightning.data.download import CIFAR10, FOLDER, Layout, Root, prepare, resolve_root
from cifar_lightning.errors import ConfigError, did_you_mean

_PROGRAM = "python -m cifar_lightning data"
_ROOT_FLAGS = ("--root", "--data.root")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{_PROGRAM}: {message}; see {_PROGRAM} --help")


def main(argv: list[str], layout: Layout = CIFAR10) -> int:
    """Print what lies where, and how it came there. Returns 0; raises ConfigError, DataError or OutputError."""
    root = _parse(argv)
    prepared = prepare(root, download=True, full_check=True, layout=layout)
    story = f"{'repaired, ' if prepared.repaired else ''}{prepared.action} from {prepared.source}"
    if prepared.action == "present":
        story = "already there"
    print(
        f"CIFAR-10: {layout.train_images:,} training and {layout.test_images:,} test images in "
        f"{(root.path / FOLDER).absolute()} ({len(layout.files)} files, MD5 verified), {story}"
    )
    return 0


def _parse(argv: list[str]) -> Root:
    parser = _Parser(
        prog=_PROGRAM,
        allow_abbrev=False,
        description="Fetch CIFAR-10 (170 MB); verify and repair the copy that is there.",
        epilog="CIFAR10_MIRROR=<url, file or folder of the archive> is asked instead of the known mirrors.",
    )
    parser.add_argument(
        *_ROOT_FLAGS,
        dest="root",
        metavar="DIR",
        help="the folder that holds, or is to hold, cifar-10-batches-py (default: $CIFAR10_ROOT, else data)",
    )
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].partition("=")[0]
        parser.error(f"unknown argument {name}{did_you_mean(name, [*_ROOT_FLAGS, '--help'])}")
    return resolve_root(options.root)
