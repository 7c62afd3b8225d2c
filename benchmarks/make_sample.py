"""Makes the sample of CIFAR-10 in `cifar_lightning/data/sample/` from the official files.

    python -m benchmarks make_sample

The same files come out each time: the draw has a fixed seed, and the compression is lossless.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10

from cifar_lightning.data.download import resolve_root
from cifar_lightning.data.sample import COLUMNS, FOLDER, INDEX, mosaic_path

SEED = 0
PER_CLASS = {"train": 500, "test": 100}


def main(argv: list[str]) -> int:
    """Draws the images, class by class, and writes one mosaic per class and split, with the list of their indices."""
    argparse.ArgumentParser(prog="python -m benchmarks make_sample", description=__doc__).parse_args(argv)
    generator = np.random.default_rng(SEED)
    chosen: dict[str, dict[str, list[int]]] = {}
    for split, count in PER_CLASS.items():
        data = CIFAR10(resolve_root(None).path, train=split == "train")
        labels = np.asarray(data.targets)
        chosen[split] = {}
        for label, name in enumerate(data.classes):
            indices = np.sort(generator.choice(np.nonzero(labels == label)[0], count, replace=False))
            chosen[split][name] = indices.tolist()
            mosaic = data.data[indices].reshape(count // COLUMNS, COLUMNS, 32, 32, 3).swapaxes(1, 2)
            mosaic = mosaic.reshape(count // COLUMNS * 32, COLUMNS * 32, 3)
            path = mosaic_path(split, name)
            Image.fromarray(mosaic).save(path, lossless=True, method=4, quality=100, exact=True)
            print(f"{path}: {count} images, {path.stat().st_size / 1000:,.0f} kB")
    INDEX.write_text(json.dumps(chosen) + "\n", encoding="utf-8")
    print(f"{INDEX}; all together {sum(p.stat().st_size for p in Path(FOLDER).iterdir()) / 1e6:.1f} MB")
    return 0
