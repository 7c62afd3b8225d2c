"""What the official data set consists of: names, digests and sizes, in one frozen value.

It stands here, and not in torchvision, so that fetching and verifying need no torch; a test holds it against
torchvision's own list. Tests with tiny files pass a Layout of their own.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cifar_lightning.errors import DataError

# In the order of the labels; a trained net is used without the files that name them.
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """The files of a data set in CIFAR-10's format, each with its MD5, and the archive that holds them."""

    folder: str
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    meta: tuple[str, str]
    train_images: int
    test_images: int
    archive_name: str
    archive_md5: str
    archive_bytes: int
    # What the archive holds besides the data; it is neither unpacked nor held against the archive.
    ignored: tuple[str, ...] = ("readme.html",)

    @property
    def files(self) -> dict[str, str]:
        """Name (without the folder) to MD5, of everything that must be on disk."""
        return dict((*self.train, *self.test, self.meta))


CIFAR10 = Layout(
    folder="cifar-10-batches-py",
    train=(
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    test=(("test_batch", "40351d587109b95175f43aff81a1287e"),),
    meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    train_images=50_000,
    test_images=10_000,
    archive_name="cifar-10-python.tar.gz",
    archive_md5="c58f30108f718f92721af3b95e74349a",
    archive_bytes=170_498_071,
)


def new_md5() -> "hashlib._Hash":
    """An MD5 that FIPS builds of OpenSSL allow too: the official digests are MD5, and no secret hangs on them."""
    return hashlib.md5(usedforsecurity=False)


def md5_of_stream(stream: BinaryIO) -> str:
    """Hex digest from the stream's position to its end."""
    digest = new_md5()
    while block := stream.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def md5_of(path: Path) -> str:
    """Hex digest of a file. Raises DataError, naming the file, where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return md5_of_stream(stream)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
