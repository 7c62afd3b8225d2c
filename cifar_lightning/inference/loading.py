"""A checkpoint as a net that is ready to use, without the configuration of a training around it."""

from argparse import ArgumentError
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cifar_lightning.classifier import Classifier
from cifar_lightning.config.foreign import ForeignNet, build, untrained
from cifar_lightning.data.datamodule import CIFAR10DataModule, Dataset
from cifar_lightning.data.layouts import LAYOUTS
from cifar_lightning.errors import CheckpointError
from cifar_lightning.runs import checkpoint


@dataclass(frozen=True)
class Trained:
    """What a checkpoint holds for its use."""

    path: Path
    sha256: str  # the file's digest, hexadecimal
    model: Classifier  # the net with its weights, in evaluation mode, on the CPU
    class_names: tuple[str, ...]  # in the order of the net's outputs
    recipe: str  # the name of the configuration that was trained
    seed: int  # of that training
    source: str  # what it was trained on: 'CIFAR-10', its sample, or 'CIFAR-100'
    epochs: int  # how many are finished
    config: dict[str, Any]  # the resolved configuration of the run

    @property
    def dataset(self) -> Dataset:
        """Which data set that is."""
        dataset: Dataset = self.config["data"].get("dataset", "cifar10")  # younger than the oldest checkpoints
        return dataset

    def __str__(self) -> str:
        """In a line: the file and what it is."""
        epochs = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        return f"{self.path} ({self.recipe}, seed {self.seed}, {self.source}, {epochs})"


def load_trained(path: Path, trusted: Collection[str] = ()) -> Trained:
    """Builds the net that a checkpoint describes and gives it the checkpoint's weights. Global random state stays.

    Args:
        path: a checkpoint of this project.
        trusted: full names of classes from outside of the package that may be imported.

    Raises CheckpointError: it cannot be read, is damaged, names a class that is not trusted, or holds another net.
    """
    loaded = checkpoint.load(path)
    config, identity = loaded.config, loaded.identity
    settings = config["model"]
    for class_path in checkpoint.foreign_classes(settings["net"], "model.net").values():
        if class_path not in trusted:
            raise CheckpointError(
                f"{path} names the class {class_path}, which would be imported; if you trust it, add "
                f"--model.net {class_path}"
            )
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and replaced
        try:
            ForeignNet.find(settings["net"]["class_path"])  # which makes a function known as a net
            net = build(untrained(settings["net"]))
        except (ArgumentError, ValueError, TypeError, ImportError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            name = settings["net"].get("class_path")
            raise CheckpointError(f"{path}: its net {name} cannot be built: {reason}") from error
        size, channels_last = settings.get("input_size"), settings.get("channels_last", True)
        model = Classifier(net, input_size=size, channels_last=channels_last).eval().requires_grad_(False)
    loaded.load_into(model)
    names = LAYOUTS[config["data"].get("dataset", "cifar10")].class_names
    try:
        with torch.inference_mode():
            logits = model(torch.zeros(2, 3, 32, 32))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its net does not take 32x32 images: {' '.join(str(error).split())}") from error
    if not logits.isfinite().all():
        raise CheckpointError(f"{path}: its net gives no numbers (NaN or infinity), so its weights are of no use")
    if (shape := tuple(logits.shape)) != (2, len(names)):
        raise CheckpointError(
            f"{path}: its net gives {shape[1:]} values for an image, and there are {len(names)} classes"
        )
    return Trained(
        path=path,
        sha256=loaded.sha256,
        model=model,
        class_names=names,
        recipe=str(identity["recipe"]),
        seed=int(identity.get("seed", config["seed_everything"])),
        source=str(identity["source"]),
        epochs=loaded.epochs,
        config=config,
    )


def official_test(trained: Trained, root: str | None = None) -> tuple[Tensor, Tensor]:
    """The test split of the checkpoint's run, uint8 (N, 32, 32, 3) and int64 (N,), in the official order.

    Args:
        trained: says where its run found the data, and whether they were the sample.
        root: another place to look, the only one.

    Raises DataError: the data set is not there.
    """
    settings = trained.config["data"]
    data = CIFAR10DataModule(root=root or settings["root"], source=settings["source"], dataset=trained.dataset)
    data.prepare_data()
    data.setup("test")
    return data.images_of("test")
