"""`find-lr`: the loss against the learning rate over a short training, and the rate that it proposes."""

from pathlib import Path

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.tuner.tuning import Tuner
from matplotlib.figure import Figure

from cifar_lightning.config.parser import Experiment
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs import figures
from cifar_lightning.training.trainer import build_trainer

PICTURE = Path("find-lr.png")


def find_lr(arguments: list[str]) -> int:
    """Trains with a rate that grows from 1e-8 to 1 (Smith, arXiv 1506.01186); writes the curve, proposes a rate.

    Args:
        arguments: those of `fit`. Nothing is kept of the training.

    Raises ConfigError: a setting is wrong, the optimizer has several rates, or the loss names none.
    """
    experiment = Experiment("fit", arguments)
    rates = {group["lr"] for group in experiment.model.build_optimizer().param_groups}
    if len(rates) > 1:
        shown = ", ".join(f"{rate:g}" for rate in sorted(rates))
        raise ConfigError(f"find-lr proposes one rate for all parameters, and this optimizer has several: {shown}")
    experiment.datamodule.prepare_data()
    trainer = build_trainer(experiment, [], logger=False)
    trainer.strategy.checkpoint_io = TorchCheckpointIO()  # ours reads no file without a run's configuration
    trainer.fit_loop.max_epochs = -1  # its hundred steps end it
    found = Tuner(trainer).lr_find(experiment.model, datamodule=experiment.datamodule, update_attr=False)
    if found is None or (rate := found.suggestion()) is None:
        raise ConfigError("find-lr: too few steps with a finite loss; give a smaller --data.batch_size")
    figure = Figure(figsize=(7, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    found.plot(suggest=True, ax=axes)
    axes.set_title(f"{experiment.recipe}: the loss falls fastest at {rate:.2g}")
    figures.save(figure, PICTURE)
    print(f"rate    {rate:.2g}, where the loss falls fastest: fit --model.optimizer.lr {rate:.2g}\nwritten {PICTURE}")
    return 0
