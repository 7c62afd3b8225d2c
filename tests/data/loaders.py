"""Loaders over small made-up data sets, and what comes out of them."""

import functools

import numpy as np
import torch
from torch import Tensor

from cifar_lightning.data.loader import TensorLoader
from cifar_lightning.data.transforms import Augmentation

# Everything on: two images, or two draws of one image, practically never give the same pixels.
ALL_AUGMENTATIONS = Augmentation(
    flip="alternating", crop_padding=3, cutout=7, brightness=0.2, contrast=0.3, erasing=0.5
)


def numbered(size: int, batch_size: int, **settings: object) -> TensorLoader:
    """A loader over `size` images whose label is their index."""
    images = torch.arange(size, dtype=torch.uint8)[:, None, None, None].expand(size, 32, 32, 3)
    return TensorLoader(images, torch.arange(size), batch_size=batch_size, **{"shuffle": True, **settings})  # type: ignore[arg-type]


@functools.cache
def noise(size: int) -> Tensor:
    """uint8 images of noise, the same in every test; not to be written to."""
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8))


def augmented(size: int, batch_size: int, **settings: object) -> TensorLoader:
    """A loader over noise, with every augmentation on, whose label is an image's index."""
    settings = {"shuffle": True, "augmentation": ALL_AUGMENTATIONS, **settings}
    return TensorLoader(noise(size), torch.arange(size), batch_size=batch_size, **settings)  # type: ignore[arg-type]


def labels_of(loader: TensorLoader, batches: int | None = None) -> list[list[int]]:
    """The labels of an epoch's batches, or of the first `batches`; the iterator is then left as it is."""
    found: list[list[int]] = []
    for _, labels in loader:
        found.append(labels.tolist())
        if len(found) == batches:
            break
    return found


def pixels_by_image(*loaders: TensorLoader) -> dict[int, Tensor]:
    """What an epoch of all `loaders` together shows: label to pixels, each once."""
    found: dict[int, Tensor] = {}
    for loader in loaders:
        for images, labels in loader:
            for image, label in zip(images, labels.tolist(), strict=True):
                assert label not in found
                found[label] = image
    return found
