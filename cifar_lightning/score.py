"""`test` and `validate`: one set of weights, one split, one score."""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.table import Table

from cifar_lightning import checkpoint, pictures, runs
from cifar_lightning.callbacks.scorer import Scorer
from cifar_lightning.callbacks.tensorboard import RunTensorBoard
from cifar_lightning.config import Experiment
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.errors import ConfigError
from cifar_lightning.files import write_json
from cifar_lightning.follower import is_follower, scratch_folder
from cifar_lightning.metrics import Evaluation
from cifar_lightning.resume import KEPT_DATA, check_kept


def test(arguments: list[str]) -> int:
    """Scores a checkpoint on the 10,000 test images; writes test.json into its run's folder."""
    return _score_checkpoint("test", arguments)


def validate(arguments: list[str]) -> int:
    """Scores a checkpoint on its run's validation split; writes validate.json into its run's folder."""
    return _score_checkpoint("validate", arguments)


def score(experiment: Experiment, trainer: Trainer, scorer: Scorer, split: str, uses_tta: bool = False) -> Evaluation:
    """Runs Lightning's evaluation loop over `split` ('test' or 'validate') with the weights that the model holds."""
    loop = trainer.test if split == "test" else trainer.validate
    experiment.model.uses_tta = uses_tta
    loop(experiment.model, datamodule=experiment.datamodule, verbose=False)
    experiment.model.uses_tta = False
    assert scorer.evaluation is not None
    return scorer.evaluation


def summary_line(verb: str, evaluation: Evaluation, weights: str) -> str:
    """The score as one line."""
    return (
        f"{verb:<7} accuracy {evaluation.accuracy:.2%}  loss {evaluation.loss:.4f}  "
        f"calibration error {evaluation.calibration_error:.4f}  ({evaluation.images:,} images, {weights})"
    )


def save_pictures(data: CIFAR10DataModule, scorer: Scorer, folder: Path, loggers: Sequence[Logger]) -> None:
    """Writes confusion matrix, per-class accuracy and worst mistakes of the test into the folder and TensorBoard."""
    evaluation = scorer.evaluation
    assert evaluation is not None
    title = f"{data.source}, test: {evaluation.accuracy:.2%} of {evaluation.images:,} images"
    figures = {
        "confusion": pictures.confusion(evaluation.confusion_matrix, data.class_names, title),
        "mistakes": pictures.worst_mistakes(data.images_of("test")[0], scorer.labels, scorer.logits, data.class_names),
    }
    table = ["| class | test accuracy |", "|---|--:|"]
    table += [f"| {name} | {share:.2%} |" for name, share in evaluation.per_class_accuracy.items()]
    for name, figure in figures.items():
        pictures.save(figure, folder / f"{name}.png")
    for logger in loggers:
        if isinstance(logger, RunTensorBoard):
            for name, figure in figures.items():
                logger.experiment.add_figure(f"test/{name}", figure)
            logger.experiment.add_text("test", "\n".join(table))
            logger.experiment.flush()


def _score_checkpoint(verb: str, arguments: list[str]) -> int:
    experiment = Experiment(verb, arguments)
    path = experiment.checkpoint
    assert path is not None
    if verb == "validate" and experiment.datamodule.val_size == 0:
        raise ConfigError(f"{path} was trained without a validation split (data.val_size 0): there is nothing to score")
    check_kept(checkpoint.config_of(experiment.content), experiment.resolved(), KEPT_DATA)
    checkpoint.load_weights(experiment.model, experiment.content, path)
    experiment.datamodule.prepare_data()
    experiment.datamodule.setup(verb)
    scorer = Scorer()
    trainer, model = experiment.make_trainer([scorer], logger=False), experiment.model
    evaluation = score(experiment, trainer, scorer, verb)
    augmented = score(experiment, trainer, scorer, verb, uses_tta=True) if model.has_tta else None
    folder = scratch_folder() if is_follower() else runs.run_of(path) or path.parent
    result = {
        "checkpoint": path.name,
        "epochs": len(experiment.content["callbacks"]["LearningCurves"]["rows"]),
        "source": experiment.datamodule.source,
        "precision": experiment.config.trainer.precision,
        **evaluation.to_dict(),
    }
    if augmented is not None:
        result["tta"] = {"views": str(model.tta), **augmented.to_dict()}
    write_json(folder / f"{verb}.json", result)
    _print(verb, evaluation, f"{path}, {experiment.datamodule.source}")
    if augmented is not None:
        print(summary_line(verb, augmented, f"the same weights, TTA {model.tta}"))
    print(f"written {folder / f'{verb}.json'}")
    return 0


def _print(verb: str, evaluation: Evaluation, weights: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(summary_line(verb, evaluation, weights))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    table.add_column("accuracy", justify="right")
    table.add_column("most often taken for")
    names = list(evaluation.per_class_accuracy)
    for row, (name, share) in enumerate(evaluation.per_class_accuracy.items()):
        counts = list(evaluation.confusion_matrix[row])
        counts[row] = -1
        worst = max(range(len(counts)), key=counts.__getitem__)
        table.add_row(name, f"{share:.2%}", f"{names[worst]} ({counts[worst]} times)" if counts[worst] > 0 else "")
    console.print(table)
