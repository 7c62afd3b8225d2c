"""CIFAR10DataModule: the official files, or the sample in the package, as splits in memory and loaders over them."""

from dataclasses import asdict
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from cifar_lightning.data import download
from cifar_lightning.data.layouts import LAYOUTS
from cifar_lightning.data.loader import NO_AUGMENTATION, TensorLoader
from cifar_lightning.data.official import read_official
from cifar_lightning.data.sample import SAMPLE_TEST_IMAGES, load_sample
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.errors import ConfigError, DataError, OutputError

Split = tuple[Tensor, Tensor]
Source = Literal["auto", "official", "sample"]
Dataset = Literal["cifar10", "cifar100"]

FALLBACK = """\
data    {reason}.
        This run uses the SAMPLE in the package instead: 5,000 training and 1,000 test images of CIFAR-10.
        Its figures are about the sample and are NOT results on CIFAR-10.
        The whole set: python -m cifar_lightning data, or --data.root FOLDER. To insist on it: --data.source official"""


def stratified_split(labels: Tensor, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cuts `val_size` indices out of `range(len(labels))`, every class in equal share.

    Args:
        labels: int64 (N,), the class of each image.
        val_size: how many to cut; where the classes do not divide it, the first classes give one more.
        seed: which of each class; the same seed gives the same cut.

    Returns:
        The indices that stay and those cut, int64, both ascending.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = labels.unique()
    share, rest = divmod(val_size, len(classes))
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for rank, label in enumerate(classes):
        members = torch.nonzero(labels == label).flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        chosen[members[: share + (rank < rest)]] = True
    return torch.nonzero(~chosen).flatten(), torch.nonzero(chosen).flatten()


def fits(images: Tensor, crop_padding: int, device: torch.device) -> bool:
    """Whether `images` (N, H, W, 3) may live on `device`: with the padded copy half of a GPU's free memory at most."""
    if device.type != "cuda":
        return True  # the CPU's memory, which Apple's GPU shares
    _, height, width, _ = images.shape
    padded = (height + 2 * crop_padding) * (width + 2 * crop_padding) / (height * width) if crop_padding else 0
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return images.nbytes * (1 + padded) <= free_bytes / 2


class CIFAR10DataModule(LightningDataModule):
    """CIFAR-10, or CIFAR-100, in memory: training, validation (cut from the training images) and the official test set.

    Batches are `(images, labels)`: float32 (B, 3, 32, 32) normalised and channels_last, int64 (B,); of training images
    that are mixed, the labels are shares, float32 (B, classes).

    Args:
        root: folder that holds `cifar-10-batches-py`, the only place looked at. Without it `$CIFAR10_ROOT` is; without
            both, `data/`, where CIFAR-10 is downloaded if it is not there. Of CIFAR-100 the folder is
            `cifar-100-python` and the variable `$CIFAR100_ROOT`.
        batch_size: images per training step, of all devices together.
        val_size: training images that validate instead, as many of each class; 0 trains on all. The sample is a tenth
            of the set, and so is its validation split.
        split_seed: which images validate. Apart from `seed`, so that runs of several seeds share one validation split.
        eval_batch_size: images per validation and test step of a device.
        augment: what is done to training images; by default nothing.
        source: 'official' is CIFAR-10, 'sample' the 6,000 of its images in the package. 'auto' takes CIFAR-10 where it
            is or can be downloaded, and else the sample, with a message; a root that is given is never replaced.
        seed: of the training order; the CLI sets it to `seed_everything`.
        dataset: 'cifar10', or 'cifar100' with its 100 fine classes.

    Raises ValueError: a size is out of range, or the sample is asked for and cannot be had.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 30,
        val_size: int = 5000,
        split_seed: int = 0,
        eval_batch_size: int = 500,
        augment: Augmentation = NO_AUGMENTATION,
        source: Source = "auto",
        seed: int = 0,
        dataset: Dataset = "cifar10",
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("val_size", val_size, 0),
            ("split_seed", split_seed, 0),
            ("eval_batch_size", eval_batch_size, 1),
        ):
            if value < least:
                raise ValueError(f"data.{name} must be at least {least}, got {value}")
        if dataset != "cifar10" and source == "sample":
            raise ValueError(f"data.source sample is of CIFAR-10 alone: leave it out, or data.dataset {dataset}")
        self.dataset = dataset
        self.layout = LAYOUTS[dataset]
        self.root = download.resolve_root(root, self.layout)
        self.batch_size = batch_size
        self.val_size = val_size
        self.split_seed = split_seed
        self.eval_batch_size = eval_batch_size
        # A checkpoint of a plain Trainer holds the augmentation as its settings.
        self.augment = Augmentation(**augment) if isinstance(augment, dict) else augment
        self.is_sample = source == "sample"
        self.may_fall_back = source == "auto" and dataset == "cifar10" and not self.root.given_by
        self.seed = seed
        self.class_names: tuple[str, ...] = ()
        self._splits: dict[str, Split] = {}
        plain = {"batch_size": batch_size, "val_size": val_size, "split_seed": split_seed, "seed": int(seed)}
        self.save_hyperparameters(plain | {"source": source, "augment": asdict(self.augment)})

    @property
    def source(self) -> str:
        """What the numbers are about: 'CIFAR-10', its sample, or 'CIFAR-100'."""
        return "the CIFAR-10 sample (6,000 images)" if self.is_sample else self.layout.name

    @property
    def sizes(self) -> dict[str, int]:
        """Images per split that is loaded."""
        return {name: len(self._splits[name][1]) for name in ("train", "val", "test") if name in self._splits}

    def prepare_data(self) -> None:
        """Makes sure that the files are there; downloads them only where the user named no place.

        Raises:
            DataError: they are not there and cannot be had, and the sample may not stand in.
            OutputError: `data/` cannot be written, and the sample may not stand in.
        """
        if self.is_sample:
            return
        try:
            download.prepare(self.root, download=not self.root.given_by, layout=self.layout)
        except (download.NowhereError, OutputError) as error:
            if not self.may_fall_back:
                raise
            self.is_sample = True
            print(FALLBACK.format(reason=str(error).partition(". Ways out")[0]), flush=True)

    def setup(self, stage: str) -> None:
        """Loads what `stage` ('fit', 'validate', 'test' or 'predict') needs; a split that is loaded is not read again.

        Raises:
            DataError: a file is damaged.
            ConfigError: `val_size` or `batch_size` does not fit the data.
        """
        if stage in ("fit", "validate") and "train" not in self._splits:
            images, labels = self._read(train=True)
            val_size = self.val_size // 10 if self.is_sample else self.val_size
            if val_size >= len(labels):
                raise ConfigError(f"data.val_size {self.val_size} leaves nothing of {len(labels)} images to train on")
            train, val = stratified_split(labels, val_size, self.split_seed)
            if self.batch_size > len(train):
                raise ConfigError(
                    f"data.batch_size {self.batch_size} is above the {len(train)} training images; "
                    f"give at most {len(train)}"
                )
            self._splits["train"] = images.index_select(0, train), labels[train]
            self._splits["val"] = images.index_select(0, val), labels[val]
        if stage in ("test", "predict") and "test" not in self._splits:
            self._splits["test"] = self._read(train=False)

    def train_dataloader(self) -> TensorLoader:
        """Batches of the training split, augmented, in a new order each epoch. Raises ValueError."""
        # To overfit on a few batches, these have to be the same ones in every epoch.
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        return self._loader("train", batch_size=self.batch_size, shuffle=shuffle, augmentation=self.augment)

    def val_dataloader(self) -> TensorLoader | list[TensorLoader]:
        """Batches of the validation split in their order; an empty list (no validation) where `val_size` is 0."""
        return self._loader("val", batch_size=self.eval_batch_size, shuffle=False) if self.val_size else []

    def test_dataloader(self) -> TensorLoader:
        """All test images in the official order."""
        return self._loader("test", batch_size=self.eval_batch_size, shuffle=False)

    def predict_dataloader(self) -> TensorLoader:
        """The same as `test_dataloader`."""
        return self.test_dataloader()

    @property
    def test_images(self) -> int:
        """How many the test set has."""
        return SAMPLE_TEST_IMAGES if self.is_sample else self.layout.test_images

    def images_of(self, split: str) -> Split:
        """A loaded split as it is: uint8 images (N, 32, 32, 3) and int64 labels (N,), for pictures."""
        assert split in self._splits, f"the {split} split is not loaded: setup() comes first"
        return self._splits[split]

    def _loader(self, split: str, **settings: Any) -> TensorLoader:
        images, labels = self.images_of(split)
        settings |= {"seed": self.seed, "dataset": self.dataset, "num_classes": len(self.class_names)}
        if self.trainer is None:
            return TensorLoader(images, labels, **settings)
        # The whole set moves once, so that no batch waits for a copy to the device.
        device = self.trainer.strategy.root_device
        padding = settings.get("augmentation", NO_AUGMENTATION).crop_padding
        home = device if fits(images, padding, device) else images.device
        settings |= {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return TensorLoader(images.to(home), labels.to(home), device=device, **settings)

    def _read(self, train: bool) -> Split:
        if self.is_sample:
            images, labels, _, self.class_names = load_sample(train)
            return torch.from_numpy(images), torch.from_numpy(labels)
        root, self.class_names = self.root.path, self.layout.class_names
        try:
            return read_official(root / self.layout.folder, self.layout, train)
        except (DataError, OSError) as error:
            download.verify(root, self.layout)  # names the file and the fix
            raise DataError(f"{root}: {error}") from error
