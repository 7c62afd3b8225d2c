"""Splits, loaders and complaints of CIFAR10DataModule on tiny files in the official format."""

import os
import pickle
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from data.official_format import CLASSES, FOLDER, TinyDataset, reader_of
from torchvision.datasets import CIFAR10

from cifar_lightning.data import datamodule, layouts
from cifar_lightning.data.datamodule import CIFAR10DataModule, fits, stratified_split
from cifar_lightning.data.loader import TensorLoader
from cifar_lightning.data.official import read_official
from cifar_lightning.data.sample import load_sample
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.errors import ConfigError, DataError


@pytest.mark.parametrize(("val_size", "per_class"), [(0, [0, 0, 0]), (6, [2, 2, 2]), (7, [3, 2, 2]), (8, [3, 3, 2])])
def test_stratified_split(val_size: int, per_class: list[int]) -> None:
    labels = torch.arange(30) % 3
    train, val = stratified_split(labels, val_size, seed=1)
    assert sorted(train.tolist() + val.tolist()) == list(range(30))
    assert torch.bincount(labels[val], minlength=3).tolist() == per_class
    assert val.tolist() == sorted(val.tolist())


def test_stratified_split_is_a_function_of_its_seed() -> None:
    labels = torch.arange(300) % 10
    torch.manual_seed(9)
    first = stratified_split(labels, 50, seed=1)[1]
    torch.manual_seed(8)
    assert torch.equal(first, stratified_split(labels, 50, seed=1)[1])
    assert not torch.equal(first, stratified_split(labels, 50, seed=2)[1])


def loaded(stage: str = "fit", **settings: object) -> CIFAR10DataModule:
    data = CIFAR10DataModule(**{"val_size": 20, "batch_size": 8, **settings})  # type: ignore[arg-type]
    data.prepare_data()
    data.setup(stage)
    return data


@pytest.mark.parametrize("train", [True, False])
def test_the_official_files_read_as_by_torchvision(tiny_cifar10: TinyDataset, train: bool) -> None:
    root, layout = Path(os.environ["CIFAR10_ROOT"]), tiny_cifar10.layout
    images, labels = read_official(root / FOLDER, layout, train)
    theirs = reader_of(layout)(root, train=train)
    np.testing.assert_array_equal(images, theirs.data)
    assert images.is_contiguous()
    assert labels.tolist() == theirs.targets


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_the_real_files_read_as_by_torchvision(real_root: str, train: bool) -> None:
    images, labels = read_official(Path(real_root) / FOLDER, layouts.CIFAR10, train)
    theirs = CIFAR10(real_root, train=train)
    np.testing.assert_array_equal(images, theirs.data)
    assert labels.tolist() == theirs.targets


def test_a_file_whose_md5_is_wrong_is_not_unpickled(tiny_cifar10: TinyDataset, tmp_path: Path) -> None:
    (Path(os.environ["CIFAR10_ROOT"]) / FOLDER / "data_batch_2").write_bytes(
        pickle.dumps(Trap(tmp_path / "opened"), protocol=2)
    )
    with pytest.raises(DataError, match="data_batch_2 is damaged"):
        loaded()
    assert not (tmp_path / "opened").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_splits_come_from_the_official_files(tiny_cifar10: TinyDataset) -> None:
    data = loaded()
    data.setup("test")
    assert data.sizes == {"train": 40, "val": 20, "test": 12}
    assert data.class_names == CLASSES
    # The first test image is the first row of test_batch, channel after channel.
    row = pickle.loads(tiny_cifar10.files["test_batch"])["data"][0]
    images, labels = data.images_of("test")
    assert np.array_equal(images[0].numpy().transpose(2, 0, 1).reshape(-1), row)
    assert labels.tolist() == [index % 10 for index in range(12)]


def test_train_and_validation_share_no_image(tiny_cifar10: TinyDataset) -> None:
    data = loaded()
    train = {image.numpy().tobytes() for image in data.images_of("train")[0]}
    val = {image.numpy().tobytes() for image in data.images_of("val")[0]}
    assert len(train) == 40
    assert len(val) == 20
    assert not train & val


def test_the_run_s_seed_moves_the_order_and_not_the_split(tiny_cifar10: TinyDataset) -> None:
    first, second = loaded(seed=1), loaded(seed=2)
    assert torch.equal(first.images_of("val")[0], second.images_of("val")[0])
    orders = [torch.cat([labels for _, labels in data.train_dataloader()]).tolist() for data in (first, second)]
    assert orders[0] != orders[1]
    other_split = loaded(seed=1, split_seed=1)
    assert not torch.equal(first.images_of("val")[0], other_split.images_of("val")[0])


def test_val_size_0_trains_on_everything(tiny_cifar10: TinyDataset) -> None:
    data = loaded(val_size=0)
    assert data.sizes["train"] == 60
    assert data.val_dataloader() == []


def test_evaluation_keeps_the_last_partial_batch(tiny_cifar10: TinyDataset) -> None:
    data = loaded("test", eval_batch_size=5)
    batches = [labels.tolist() for _, labels in data.test_dataloader()]
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert [label for batch in batches for label in batch] == data.images_of("test")[1].tolist()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"batch_size": 0}, "data.batch_size must be at least 1, got 0"),
        ({"eval_batch_size": -1}, "data.eval_batch_size must be at least 1, got -1"),
        ({"val_size": -1}, "data.val_size must be at least 0, got -1"),
        ({"split_seed": -1}, "data.split_seed must be at least 0, got -1"),
    ],
)
def test_values_out_of_range(settings: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CIFAR10DataModule(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"val_size": 60}, "data.val_size 60 leaves nothing of 60 images"),
        ({"batch_size": 41}, "data.batch_size 41 is above the 40 training images"),
    ],
)
def test_values_that_do_not_fit_the_data(tiny_cifar10: TinyDataset, settings: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        loaded(**settings)


def trained_by(device: torch.device | str = "cpu", rank: int = 0, world_size: int = 1) -> Any:
    """What the data module asks of its Trainer."""
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(strategy=strategy, global_rank=rank, world_size=world_size)


@pytest.mark.parametrize("trainer", [None, trained_by()])
def test_only_training_images_are_augmented(tiny_cifar10: TinyDataset, trainer: Any) -> None:
    options = Augmentation(flip="random", crop_padding=4, cutout=8, brightness=0.5, contrast=0.5)
    plain, data = loaded(), loaded(augment=options)
    assert data.train_dataloader().augmentation == options
    assert plain.train_dataloader().augmentation == Augmentation()
    for each in (plain, data):
        each.setup("test")
        each.trainer = trainer
    for one, other in (
        (plain.val_dataloader(), data.val_dataloader()),
        (plain.test_dataloader(), data.test_dataloader()),
    ):
        for (images, labels), (same_images, same_labels) in zip(one, other, strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(labels, same_labels)
    for (images, labels), (other_images, same_labels) in zip(
        plain.train_dataloader(), data.train_dataloader(), strict=True
    ):
        assert torch.equal(labels, same_labels)
        assert all(not torch.equal(image, other) for image, other in zip(images, other_images, strict=True))


@pytest.mark.parametrize(
    ("crop_padding", "free_bytes", "expected"),
    [
        (0, 2 * 3072, True),  # one image of 3,072 bytes
        (0, 2 * 3071, False),
        (4, 2 * (3072 + 4800), True),  # and its copy of 40x40
        (4, 2 * (3072 + 4799), False),
    ],
)
def test_a_gpu_keeps_half_of_its_free_memory(
    crop_padding: int, free_bytes: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (free_bytes, 10**12))
    assert fits(image, crop_padding, torch.device("cuda", 1)) is expected
    assert asked == [torch.device("cuda", 1)]


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_where_memory_is_shared_every_data_set_fits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cuda, "mem_get_info")
    assert fits(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), 4, torch.device(name))


@pytest.mark.parametrize(("does_fit", "home"), [(True, "meta"), (False, "cpu")])
def test_a_set_that_does_not_fit_stays_at_home_and_its_batches_move(
    tiny_cifar10: TinyDataset, monkeypatch: pytest.MonkeyPatch, does_fit: bool, home: str
) -> None:
    """The meta device stands in for a GPU: it has shapes and no content."""
    monkeypatch.setattr(datamodule, "fits", lambda images, crop_padding, device: does_fit)
    data = loaded(augment=Augmentation(crop_padding=2, cutout=4, brightness=0.5))
    data.setup("test")
    data.trainer = trained_by("meta")
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert isinstance(loader, TensorLoader)
        assert loader.labels.device.type == home
        shapes = []
        for images, labels in loader:
            assert images.device.type == labels.device.type == "meta"
            shapes.append((tuple(images.shape), tuple(labels.shape)))
        size = len(loader.labels)
        assert shapes == [((size, 3, 32, 32), (size,))]


def test_the_ranks_of_a_trainer_share_the_training(tiny_cifar10: TinyDataset) -> None:
    data = loaded(eval_batch_size=7)
    whole = [sorted(labels.tolist()) for _, labels in data.train_dataloader()]
    validated = torch.cat([labels for _, labels in data.val_dataloader()]).tolist()
    per_rank, own = [], []
    for rank in range(4):
        data.trainer = trained_by(rank=rank, world_size=4)
        per_rank.append([labels.tolist() for _, labels in data.train_dataloader()])
        own += [label for _, labels in data.val_dataloader() for label in labels.tolist()]
    assert [sorted(chain(*parts)) for parts in zip(*per_rank, strict=True)] == whole
    assert own == validated


def test_a_batch_that_cannot_be_shared_out(tiny_cifar10: TinyDataset) -> None:
    data = loaded(batch_size=10)
    data.trainer = trained_by(world_size=4)
    with pytest.raises(ValueError, match="batch_size 10 cannot be shared out evenly among 4 processes"):
        data.train_dataloader()
    assert isinstance(data.val_dataloader(), TensorLoader)  # evaluation needs no common factor


def test_a_damaged_file_is_named_with_the_command_that_mends_it(tiny_cifar10: TinyDataset, tmp_path: Path) -> None:
    path = tmp_path / "cifar10" / FOLDER / "data_batch_2"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_2 .*python -m cifar_lightning data --root"):
        loaded()


def test_no_data_where_the_user_said_they_are(tmp_path: Path) -> None:
    data = CIFAR10DataModule(root=str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"CIFAR10_MIRROR.*--data\.root.*--data\.source sample"):
        data.prepare_data()
    assert not (tmp_path / "empty").exists()


def test_the_sample_is_a_tenth_of_everything(tmp_path: Path) -> None:
    data = CIFAR10DataModule(root=str(tmp_path), source="sample", val_size=1000)
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    assert data.source == "the CIFAR-10 sample (6,000 images)"
    assert data.sizes == {"train": 4900, "val": 100, "test": 1000}
    assert data.test_images == 1000
    assert data.class_names == CLASSES


def test_the_sample_is_of_the_official_pixels_and_labels(real_root: str) -> None:
    for train in (True, False):
        sample, official = load_sample(train), CIFAR10(real_root, train=train)
        assert len(set(sample.indices.tolist())) == len(sample.labels) == (5000 if train else 1000)
        assert (sample.images == official.data[sample.indices]).all()
        assert (sample.labels == np.asarray(official.targets)[sample.indices]).all()
        assert sample.class_names == tuple(official.classes)
        assert np.bincount(sample.labels).tolist() == [len(sample.labels) // 10] * 10


def test_the_real_data_set(real_root: str) -> None:
    data = loaded(root=real_root, val_size=5000)
    data.setup("test")
    assert data.sizes == {"train": 45_000, "val": 5_000, "test": 10_000}
    assert data.class_names == CLASSES
    for split, per_class in (("train", 4500), ("val", 500), ("test", 1000)):
        assert torch.bincount(data.images_of(split)[1]).tolist() == [per_class] * 10


def test_mean_and_deviation_are_those_of_the_real_training_images(real_root: str) -> None:
    from cifar_lightning.data.transforms import CIFAR10_MEAN, CIFAR10_STD

    images = loaded(root=real_root, val_size=0).images_of("train")[0]
    for channel in range(3):
        values = images[..., channel].double() / 255
        assert round(values.mean().item(), 4) == CIFAR10_MEAN[channel]
        assert round(values.std().item(), 4) == CIFAR10_STD[channel]
