"""The official test images for a checkpoint: those of the data set that it trained on."""

from torch import Tensor

from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.inference.trained import Trained


def official_test(trained: Trained, root: str | None = None) -> tuple[Tensor, Tensor]:
    """Reads the test split, uint8 (N, 32, 32, 3) and int64 (N,), in the official order.

    Args:
        trained: says where its run found the data, and whether they were the synthetic ones.
        root: another place to look, the only one.

    Raises:
        DataError: CIFAR-10 is not there.
    """
    settings = trained.config["data"]
    data = CIFAR10DataModule(root=root or settings["root"], synthetic=settings["synthetic"])
    data.prepare_data()
    data.setup("test")
    return data.images_of("test")
