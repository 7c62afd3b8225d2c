"""A tiny data set in CIFAR-10's official format, its archive, and the Layout that describes both."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_lightning.data import layouts
from cifar_lightning.data.layouts import FOLDER, Layout

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class TinyDataset:
    """`files`: name to bytes; `archive`: the tar.gz of them; `layout`: the digests of both."""

    files: dict[str, bytes]
    archive: bytes
    layout: Layout

    def write_folder(self, root: Path) -> Path:
        """The unpacked data set; returns `root`."""
        folder = root / self.layout.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return root

    def write_archive(self, root: Path) -> Path:
        """The archive alone; returns its path."""
        root.mkdir(parents=True, exist_ok=True)
        path = root / self.layout.archive
        path.write_bytes(self.archive)
        return path


def tiny_dataset(images_per_batch: int = 4, seed: int = 0) -> TinyDataset:
    """Noise images with labels 0 to 9 in turn. Archives of different seeds differ in content and not in size."""
    generator = np.random.default_rng(seed)
    files = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        images = generator.integers(0, 256, (images_per_batch, 3072), dtype=np.uint8)
        batch = {"data": images, "labels": [index % 10 for index in range(images_per_batch)]}
        files[name] = pickle.dumps(batch, protocol=4)
    files["batches.meta"] = pickle.dumps({"label_names": list(CLASSES)}, protocol=4)
    members = [directory_member(FOLDER), file_member(f"{FOLDER}/readme.html", b"<html></html>")]
    members += [file_member(f"{FOLDER}/{name}", content) for name, content in files.items()]
    archive = tar_gz(members)
    return TinyDataset(files, archive, layout_of(files, archive, images_per_batch))


def layout_of(files: dict[str, bytes], archive: bytes, images_per_batch: int = 4) -> Layout:
    """The Layout by which `files` and `archive` are the right ones, whatever they hold."""
    return Layout(
        files={name: hashlib.md5(content).hexdigest() for name, content in files.items()},
        archive_md5=hashlib.md5(archive).hexdigest(),
        train_images=5 * images_per_batch,
        test_images=images_per_batch,
    )


def tiny_cifar100(train_images: int = 200, test_images: int = 100) -> TinyDataset:
    """Noise images in CIFAR-100's official format, with fine labels 0 to 99 in turn and coarse ones that differ."""
    generator, files = np.random.default_rng(0), {}
    for name, count in (("train", train_images), ("test", test_images)):
        fine = [index % 100 for index in range(count)]
        images = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
        batch = {"data": images, "fine_labels": fine, "coarse_labels": [label // 5 for label in fine]}
        files[name] = pickle.dumps(batch, protocol=4)
    names = {
        "fine_label_names": list(layouts.CIFAR100_CLASS_NAMES),
        "coarse_label_names": [f"c{k}" for k in range(20)],
    }
    files["meta"] = pickle.dumps(names, protocol=4)
    folder = layouts.CIFAR100.folder
    members = [directory_member(folder), file_member(f"{folder}/file.txt~", b"")]
    archive = tar_gz([*members, *(file_member(f"{folder}/{name}", content) for name, content in files.items())])
    digests = layout_of(files, archive)
    layout = dataclasses.replace(
        layouts.CIFAR100, files=digests.files, archive_md5=digests.archive_md5, mirrors=(),
        train_images=train_images, test_images=test_images,
    )  # fmt: skip
    return TinyDataset(files, archive, layout)


def reader_of(layout: Layout) -> type:
    """torchvision's reader for the files of `layout`."""
    from torchvision.datasets import CIFAR10, CIFAR100

    if layout.dataset == "cifar100":
        lists = {f"{name}_list": [[name, layout.files[name]]] for name in ("train", "test")}
        meta = CIFAR100.meta | {"md5": layout.files["meta"]}
        return type("TinyCIFAR100", (CIFAR100,), {**lists, "meta": meta})
    batches = {True: [], False: []}  # type: ignore[var-annotated]
    for name, md5 in layout.files.items():
        if name != "batches.meta":
            batches[name.startswith("data_batch")].append([name, md5])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": layout.files["batches.meta"]}
    return type("TinyCIFAR10", (CIFAR10,), {"train_list": batches[True], "test_list": batches[False], "meta": meta})


Member = tuple[tarfile.TarInfo, bytes]


def file_member(name: str, content: bytes) -> Member:
    """A regular file for `tar_gz`."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def directory_member(name: str) -> Member:
    """A directory entry for `tar_gz`."""
    return special_member(name, tarfile.DIRTYPE)


def special_member(name: str, kind: bytes, link: str = "") -> Member:
    """A link, device or directory for `tar_gz`."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member, b""


def tar_gz(members: list[Member]) -> bytes:
    """The bytes of a tar.gz of `members`, in their order, names taken as they are; the same bytes at every call."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=0, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


# What most tests are content with: 24 images, an archive of 114 kB.
TINY = tiny_dataset()
