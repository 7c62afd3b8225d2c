"""One download into a folder of the test, by a patience that tests can wait for."""

import hashlib
from pathlib import Path

from data.official_format import ARCHIVE, TINY

from cifar_lightning.data.download import Fetched, fetch
from cifar_lightning.data.transfer import Patience, part_of

SIZE = len(TINY.archive)
WRONG = bytes(SIZE)
CALM = Patience(backoff_seconds=0.01)
# For the tests that wait for it only: on a busy machine a good server may be as slow as this.
HURRIED = Patience(connect_seconds=0.4, stall_seconds=0.4, backoff_seconds=0.01)


class Fetching:
    """`fetch` into a folder of the test, with what it reported."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / ARCHIVE
        self.part = part_of(self.target)
        self.layout = TINY.layout
        self.lines: list[str] = []

    def __call__(self, *mirrors: str, patience: Patience = CALM) -> Fetched:
        return fetch(self.target, self.layout, mirrors, patience=patience, report=self.lines.append)

    def assert_whole(self) -> None:
        assert hashlib.md5(self.target.read_bytes()).hexdigest() == self.layout.archive_md5
        assert not self.part.exists()
