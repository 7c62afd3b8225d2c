"""RunTensorBoard: TensorBoard's files in a run's own folder, training and validation as two sub-runs."""

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from cifar_lightning.errors import OutputError


class RunTensorBoard(TensorBoardLogger):
    """Writes pictures, text and HParams to the run's folder and curves to its sub-runs `train` and `val`.

    TensorBoard overlays the same tag of several runs in one card, so `loss` of `train` and `loss` of `val` meet there.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(save_dir=folder, name="", version="", default_hp_metric=False)
        self._folder = folder
        self._curves: dict[str, SummaryWriter] = {}
        self._purge_from: int | None = None

    def purge_from(self, epoch: int) -> None:
        """Tells TensorBoard to drop points of `epoch` and later that a run left before it was resumed."""
        self._purge_from = epoch

    def curve(self, split: str, tag: str, value: float, epoch: int) -> None:
        """Adds a point to the curve `tag` of the sub-run `split` and hands it to the file system.

        Raises:
            OutputError: it does not take it.
        """
        try:
            if split not in self._curves:
                self._curves[split] = SummaryWriter(str(self._folder / split), purge_step=self._purge_from)
            self._curves[split].add_scalar(tag, value, epoch)
            self._curves[split].flush()
        except OSError as error:
            raise OutputError(f"cannot write to {self._folder / split}: {error.strerror or error}") from error

    def save(self) -> None:
        """Writes no hparams.yaml: config.yaml beside it holds the whole configuration."""

    def finalize(self, status: str) -> None:
        """Closes every file. After a failure a full disk is no news, and the first error is the one to tell.

        Raises:
            OutputError: after a success, what was left to write could not be written.
        """
        try:
            super().finalize(status)
            for writer in self._curves.values():
                writer.close()
        except OSError as error:
            if status == "success":
                raise OutputError(f"cannot write to {self._folder}: {error.strerror or error}") from error
        finally:
            self._curves.clear()
