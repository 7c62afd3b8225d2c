"""Half-extracted and damaged files are mended, and good ones are never out of reach."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from data.folders import ONE_OF, assert_whole, cut_one, names_in, remove_one, state_of
from data.official_format import ARCHIVE, FOLDER, TINY

from cifar_lightning.data.archive import Prepared, prepare, verify
from cifar_lightning.data.unpack import STAGING_NAME
from cifar_lightning.errors import DataError

pytestmark = pytest.mark.usefixtures("offline")


def leave_staging(folder: Path) -> None:
    remove_one(folder)
    for place in (folder, folder.parent):
        (place / STAGING_NAME).mkdir()
        (place / STAGING_NAME / "data_batch_1").write_bytes(b"half")


@pytest.mark.parametrize(
    ("harm", "full_check"), [(remove_one, False), (remove_one, True), (cut_one, True), (leave_staging, False)]
)
def test_repair_from_the_archive_beside_needs_no_network(
    root: Path, harm: Callable[[Path], None], full_check: bool
) -> None:
    TINY.write_folder(root)
    beside = TINY.write_archive(root)
    harm(root / FOLDER)
    prepared = prepare(root, download=True, layout=TINY.layout, full_check=full_check)
    assert prepared == Prepared(root, "unpacked", str(beside), repaired=True)
    assert_whole(root, ARCHIVE)


def test_repair_by_download_keeps_what_else_lies_there(root: Path, serve) -> None:
    TINY.write_folder(root)
    (root / FOLDER / "readme.html").write_text("mine")
    cut_one(root / FOLDER)
    server = serve()
    assert prepare(root, download=True, layout=TINY.layout, mirrors=[server.url]).action == "present"
    prepared = prepare(root, download=True, layout=TINY.layout, mirrors=[server.url], full_check=True)
    assert prepared == Prepared(root, "downloaded", server.host, repaired=True)
    verify(root, TINY.layout)
    assert (root / FOLDER / "readme.html").read_text() == "mine"
    assert names_in(root) == [FOLDER]


def test_a_half_extracted_folder_offline_keeps_its_good_files(root: Path) -> None:
    TINY.write_folder(root)
    remove_one(root / FOLDER)
    before = state_of(root / FOLDER)
    with pytest.raises(DataError, match=f"lacks {ONE_OF}"):
        prepare(root, download=True, layout=TINY.layout)
    assert state_of(root / FOLDER) == before
    assert names_in(root) == [FOLDER]


def test_an_interrupted_repair_never_takes_a_good_file_away(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TINY.write_folder(root)
    TINY.write_archive(root)
    remove_one(root / FOLDER)
    replaced: list[str] = []

    def replace_and_stop(source: Path, target: Path) -> None:
        if len(replaced) == 2:
            raise KeyboardInterrupt
        replaced.append(target.name)
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("cifar_lightning.data.unpack.os.replace", replace_and_stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, download=True, layout=TINY.layout)
    assert len(replaced) == 2
    for name in TINY.files.keys() - {ONE_OF}:
        assert (root / FOLDER / name).read_bytes() == TINY.files[name]
    assert names_in(root) == sorted([ARCHIVE, FOLDER]), "neither lock nor staging stay"
    prepare(root, download=True, layout=TINY.layout)
    assert_whole(root, ARCHIVE)


def test_a_damaged_archive_is_fetched_anew_and_stays(root: Path, serve) -> None:
    replace(TINY, archive=TINY.archive[:-10]).write_archive(root)
    lines: list[str] = []
    prepare(root, download=True, layout=TINY.layout, mirrors=[serve().url], report=lines.append)
    assert lines[0].startswith(f"CIFAR-10: {root / ARCHIVE} is damaged (MD5 ")
    assert_whole(root, ARCHIVE)
    assert (root / ARCHIVE).read_bytes() == TINY.archive
