"""Archives that are not what they say are refused whole."""

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from data.folders import names_in, remove_one, state_of
from data.official_format import (
    ARCHIVE,
    FOLDER,
    TINY,
    Member,
    directory_member,
    file_member,
    layout_of,
    special_member,
    tar_gz,
    tiny_dataset,
)

from cifar_lightning.data.archive import prepare
from cifar_lightning.data.unpack import unpack
from cifar_lightning.errors import DataError

pytestmark = pytest.mark.usefixtures("offline")


def members(**changed: bytes) -> list[Member]:
    return [file_member(f"{FOLDER}/{name}", changed.get(name, content)) for name, content in TINY.files.items()]


INSIDE = f"{FOLDER}/data_batch_1"
DEEP = f"{FOLDER}/../../escaped"
CRAFTED = {
    "traversal": ([*members(), file_member("../escaped", b"!")], "a path that leads outside, '../escaped'"),
    "traversal within": ([*members(), file_member(DEEP, b"!")], f"a path that leads outside, '{DEEP}'"),
    "absolute": ([*members(), file_member("/tmp/escaped", b"!")], "an absolute path, '/tmp/escaped'"),
    "symlink": ([special_member(INSIDE, tarfile.SYMTYPE, "/etc/passwd"), *members()], f"a link, '{INSIDE}'"),
    "symlinked folder": ([special_member(FOLDER, tarfile.SYMTYPE, ".."), *members()], f"a link, '{FOLDER}'"),
    "hard link": ([special_member(INSIDE, tarfile.LNKTYPE, "../x"), *members()], f"a link, '{INSIDE}'"),
    "device": ([special_member(INSIDE, tarfile.CHRTYPE), *members()], "a device or another special file"),
    "pipe": ([special_member(INSIDE, tarfile.FIFOTYPE), *members()], "a device or another special file"),
    "extra file": ([*members(), file_member(f"{FOLDER}/run.sh", b"!")], f"'{FOLDER}/run.sh', which is not part"),
    "extra file outside": ([file_member("data_batch_1", b"!"), *members()], "'data_batch_1', which is not part"),
    "extra folder": ([directory_member(f"{FOLDER}/more"), *members()], f"'{FOLDER}/more', which is not part"),
    "twice": ([*members(), members()[0]], f"'{INSIDE}', which is not part of the data set or is there twice"),
    "newline": ([*members(), file_member("a\nb", b"!")], "'a\\nb', which is not part"),
    "damaged member": (members(data_batch_1=b"?"), f"{INSIDE} is damaged (MD5 "),
    "missing member": (members()[1:], f"lacks {INSIDE}"),
    "empty": ([], f"lacks {FOLDER}/batches.meta, "),
}


@pytest.mark.parametrize("half_there", [False, True])
@pytest.mark.parametrize(("content", "problem"), CRAFTED.values(), ids=CRAFTED)
def test_a_crafted_archive_is_refused_whole(root: Path, content: list[Member], problem: str, half_there: bool) -> None:
    crafted = tar_gz(content)
    layout = layout_of(TINY.files, crafted)
    if half_there:
        TINY.write_folder(root)
        remove_one(root / FOLDER)
    replace(TINY, archive=crafted).write_archive(root)
    before = state_of(root.parent)
    with pytest.raises(DataError) as caught:
        prepare(root, download=True, layout=layout)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    after = state_of(root.parent)
    assert {name: state[2] for name, state in after.items()} == {name: state[2] for name, state in before.items()}
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize("content", [b"no tar at all", TINY.archive[:20_000]], ids=["no tar", "cut"])
def test_what_is_no_archive_is_a_data_error(root: Path, content: bytes) -> None:
    path = replace(TINY, archive=content).write_archive(root)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, root, layout_of(TINY.files, content))
    assert names_in(root) == [ARCHIVE]


def test_unpack_itself_looks_at_the_digest_first(root: Path) -> None:
    path = replace(TINY, archive=tiny_dataset(seed=1).archive).write_archive(root)
    with pytest.raises(DataError, match=rf"{ARCHIVE} is damaged \(MD5"):
        unpack(path, root, TINY.layout)
    assert names_in(root) == [ARCHIVE]
