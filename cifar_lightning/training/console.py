"""What a run says of itself before its training, on the console and in TensorBoard."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table

from cifar_lightning.config.parser import Experiment
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.nets.summary import LayerTable, as_markdown, shape_text
from cifar_lightning.runs.record import RunRecord
from cifar_lightning.training.callbacks.tensorboard import RunTensorBoard


class RunConsole(Console):
    """rich's, which would end the process where a pipe's reader has gone; here whoever prints decides."""

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError."""
        raise BrokenPipeError


def introduce(experiment: Experiment, trainer: Trainer, folder: Path, layers: LayerTable, record: RunRecord) -> None:
    """Says what is about to run; TensorBoard has it from the run's first session."""
    data, console = experiment.datamodule, RunConsole(highlight=False, soft_wrap=True)
    threads = f" with {torch.get_num_threads()} thread(s)" if trainer.strategy.root_device.type == "cpu" else ""
    console.print(f"run     {folder}", f"data    {data.source}: {_sizes(data)}", sep="\n")
    count = f"{trainer.world_size} x " if trainer.world_size > 1 else ""
    console.print(f"device  {count}{trainer.strategy.root_device}{threads}, precision {trainer.precision}")
    if count and experiment.config.trainer.sync_batchnorm:
        console.print("        batch norm takes the images of all devices together")
    if record.dropped_per_epoch:
        console.print(f"        {record.dropped_per_epoch} image(s) dropped per epoch: devices take equal shares")
    if experiment.checkpoint is not None:
        console.print(f"from    {experiment.checkpoint}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("layer", "made of", "output", "parameters"):
        table.add_column(column, justify="right" if column == "parameters" else "left")
    for row in layers.rows:
        table.add_row(row.name, row.kind, shape_text(row.output_shape), f"{row.parameters:,}")
    table.add_row("all", "", "", f"{layers.parameters:,}", style="bold")
    console.print(table)
    if isinstance(trainer.logger, RunTensorBoard) and not record.resumed:
        writer = trainer.logger.experiment
        writer.add_text("data", f"{data.source}: {_sizes(data)}")
        writer.add_text("layers", as_markdown(layers))
        writer.add_text("config", "\n".join(f"    {line}" for line in experiment.resolved_yaml.splitlines()))
        writer.flush()


def _sizes(data: CIFAR10DataModule) -> str:
    if not data.sizes["val"]:
        return f"all {data.sizes['train']:,} training images, no validation split and so no validation curve"
    return f"{data.sizes['train']:,} training and {data.sizes['val']:,} validation images"
