"""RunTensorBoard: TensorBoard's files in a run's own folder, training and validation as two sub-runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch.utils.tensorboard import SummaryWriter

from cifar_lightning.errors import OutputError
from cifar_lightning.runs.settings import setting

# What HParams shows of a run. TensorBoard sorts the columns by name and shows the first five at first.
HPARAMS = {
    "batch_size": "data.batch_size",
    "dropout": "model.net.init_args.dropout",
    "learning_rate": "model.optimizer.init_args.lr",
    "net": "model.net.class_path",
    "optimizer": "model.optimizer.class_path",
    "precision": "trainer.precision",
    "seed": "seed_everything",
}


def name_run(logger: Logger, name: str) -> None:
    """Gives a run's name to a user's own logger that has none; before its first use."""
    if isinstance(logger, WandbLogger):
        logger._wandb_init["name"] = logger._wandb_init.get("name") or name
    elif isinstance(logger, MLFlowLogger):
        logger._run_name = logger._run_name or name


class RunTensorBoard(TensorBoardLogger):
    """Writes figures, text and HParams to the run's folder and curves to its sub-runs `train` and `val`.

    TensorBoard overlays the same tag of several runs in one card, so `loss` of `train` and `loss` of `val` meet there.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(save_dir=folder, name="", version="", default_hp_metric=False)
        self._folder = folder
        self._curves: dict[str, SummaryWriter] = {}
        self.purge_from: int | None = None  # TensorBoard drops this epoch and later ones, left from before a resume

    def log_curves(self, points: Mapping[str, float], epoch: int) -> None:
        """Adds `train/name` and `val/name` to the curve `name` of their sub-runs. Raises OutputError if that fails."""
        try:
            for key, value in points.items():
                split, name = key.split("/")
                if split not in self._curves:
                    self._curves[split] = SummaryWriter(str(self._folder / split), purge_step=self.purge_from)
                self._curves[split].add_scalar(name, value, epoch)
            for writer in self._curves.values():
                writer.flush()
        except OSError as error:
            raise OutputError(f"cannot write to {self._folder}: {error.strerror or error}") from error

    def log_result(self, config: dict[str, Any], metrics: dict[str, Any], epochs: int) -> None:
        """Adds the run to HParams.

        Args:
            config: the resolved configuration.
            metrics: of the run's record: `last_epoch` and `test`, where there are any.
            epochs: trained; a run that is extended later adds a point there and does not double this one.
        """
        found = {name: setting(config, path) for name, path in HPARAMS.items()} | {"epochs": epochs}
        hparams = {
            name: value if isinstance(value, (int, float)) else str(value).rpartition(".")[2]  # a class without modules
            for name, value in found.items()
            if value is not None
        }
        values = {f"test_{name}": value for name, value in metrics.get("test", {}).items()}
        values |= metrics.get("last_epoch", {})
        names = [f"{split}_{name}" for split in ("test", "val", "train") for name in ("accuracy", "loss")]
        # The tag's name sorts these single points below the curves.
        results = {f"result/{name}": values[name] for name in names if name in values}
        super().log_hyperparams(hparams, results, step=epochs)

    def log_hyperparams(self, *arguments: Any, **settings: Any) -> None:
        """Nothing, where Lightning tells what the model and the data keep of their arguments: `log_result` does."""

    def save(self) -> None:
        """Writes no hparams.yaml: config.yaml beside it holds the whole configuration."""

    def finalize(self, status: str) -> None:
        """Closes every file. After a failure a full disk is no news, and the first error is the one to tell.

        Raises OutputError: after a success, what was left to write could not be written.
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
