"""`test` and `validate`: one set of weights, one split, one score."""

from dataclasses import asdict
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.table import Table

from cifar_lightning.config.flags import OWN_FLAGS
from cifar_lightning.config.parser import Experiment
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.errors import CheckpointError, ConfigError
from cifar_lightning.metrics import Evaluation, reliability
from cifar_lightning.nets.tta import TTA, Views
from cifar_lightning.process import is_rank_zero, scratch_folder
from cifar_lightning.runs import calibration, figures, run_dir
from cifar_lightning.runs.atomic import write_json
from cifar_lightning.runs.checkpoint import PRETRAINED
from cifar_lightning.training.callbacks.scorer import Scored, Scorer
from cifar_lightning.training.callbacks.tensorboard import RunTensorBoard
from cifar_lightning.training.resume import FROZEN_DATA, check_frozen
from cifar_lightning.training.trainer import build_trainer


class Scoring(Experiment):
    """The configuration of `test` or `validate`, with the flags that only these have."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """`--tta` is the short name of a setting that the checkpoint's configuration also has."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--tta", type=Views | None, default=OWN_FLAGS["tta"][0], help=OWN_FLAGS["tta"][1])
        parser.add_argument("--calibrate", action="store_true", help=OWN_FLAGS["calibrate"][1])

    def before_instantiate_classes(self) -> None:
        """The short name wins, as flags do."""
        super().before_instantiate_classes()
        if self.config.tta is not None:
            self.config.model.tta.views = self.config.tta


def test(arguments: list[str]) -> int:
    """Scores a checkpoint on the 10,000 test images; writes test.json into its run's folder."""
    return _score_checkpoint("test", arguments)


def validate(arguments: list[str]) -> int:
    """Scores a checkpoint on its run's validation split; writes validate.json into its run's folder."""
    return _score_checkpoint("validate", arguments)


def score(experiment: Experiment, trainer: Trainer, split: str, tta: TTA | None = None) -> Scored:
    """Runs Lightning's evaluation loop over `split` ('test' or 'validate') with the weights that the model holds.

    Args:
        experiment: the model and the data.
        trainer: of this experiment.
        split: which images.
        tta: the views that each image's logits are averaged over.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(scorer := Scorer())  # for this evaluation alone: a validation within a training needs no logits
    experiment.model.evaluation_tta = tta
    loop = trainer.test if split == "test" else trainer.validate
    loop(experiment.model, datamodule=experiment.datamodule, verbose=False)
    callbacks.remove(scorer)
    assert scorer.scored is not None
    return scorer.scored


def summary_line(verb: str, evaluation: Evaluation, weights: str) -> str:
    """The score as one line."""
    return (
        f"{verb:<7} accuracy {evaluation.accuracy:.2%}  loss {evaluation.loss:.4f}  "
        f"calibration error {evaluation.calibration_error:.4f}  ({evaluation.images:,} images, {weights})"
    )


def save_figures(data: CIFAR10DataModule, scored: Scored, folder: Path, logger: Logger | None, epoch: int) -> None:
    """Writes confusion matrix, per-class accuracy and worst mistakes of the test into the folder and TensorBoard."""
    evaluation = scored.evaluation
    title = f"{data.source}, test: {evaluation.accuracy:.2%} of {evaluation.images:,} images"
    drawn = {
        "confusion": figures.confusion(evaluation.confusion_matrix, data.class_names, title),
        "mistakes": figures.worst_mistakes(data.images_of("test")[0], scored.labels, scored.logits, data.class_names),
    }
    table = ["| class | test accuracy |", "|---|--:|"]
    table += [f"| {name} | {share:.2%} |" for name, share in evaluation.per_class_accuracy.items()]
    for name, figure in drawn.items():
        figures.save(figure, folder / f"{name}.png")
    if isinstance(logger, RunTensorBoard):
        for name, figure in drawn.items():
            logger.experiment.add_figure(f"test/{name}", figure, epoch)
        logger.experiment.add_text("test", "\n".join(table), epoch)
        logger.experiment.flush()


def _score_checkpoint(verb: str, arguments: list[str]) -> int:
    experiment = Scoring(verb, arguments)
    loaded = experiment.loaded
    assert loaded is not None
    path = loaded.path
    calibrates = bool(experiment.config.calibrate)
    if experiment.datamodule.val_size == 0 and (calibrates or verb == "validate"):
        lost = "a temperature cannot be fitted" if calibrates else "there is nothing to score"
        raise ConfigError(f"{path} was trained without a validation split (data.val_size 0): {lost}")
    check_frozen(loaded.config, experiment.resolved(), FROZEN_DATA)
    loaded.load_into(experiment.model)
    experiment.datamodule.prepare_data()
    for stage in (verb, *(["validate"] if calibrates else [])):
        experiment.datamodule.setup(stage)
    trainer, model = build_trainer(experiment, [], logger=False), experiment.model
    names = experiment.datamodule.class_names
    views: dict[str, TTA | None] = {"none": None} | ({str(model.tta): model.tta} if model.tta.views != "none" else {})
    fits: dict[str, dict[str, float]] = {}
    if calibrates:
        validated = {view: score(experiment, trainer, "validate", tta) for view, tta in views.items()}
        fits = {view: calibration.fit(scored.logits, scored.labels, names) for view, scored in validated.items()}
    scores = {view: score(experiment, trainer, verb, tta) for view, tta in views.items()}
    if calibrates and loaded.changed_on_disk:
        raise CheckpointError(
            f"{path} was replaced while it was scored, by a training that goes on; a temperature for weights that are "
            "gone is of no use: calibrate when the training has ended, or a copy of the file"
        )
    after = {view: scores[view].at(fit["temperature"], names) for view, fit in fits.items()}
    sections = {view: asdict(scored.evaluation) for view, scored in scores.items()}
    for view, scored in after.items():
        error, temperature = scored.evaluation.calibration_error, fits[view]["temperature"]
        calibrated = {"temperature": temperature, "loss": scored.evaluation.loss, "calibration_error": error}
        sections[view]["calibrated"] = calibrated
    folder = scratch_folder()
    if is_rank_zero():
        folder = experiment.logs / "pretrained" if path == PRETRAINED else run_dir.run_of(path) or path.parent
        folder.mkdir(parents=True, exist_ok=True)
    data = experiment.datamodule
    result = {
        "checkpoint": path.name,
        "epochs": loaded.epochs,
        "source": data.source,
        "precision": experiment.config.trainer.precision,
        **sections.pop("none"),
    }
    for view, section in sections.items():
        result["tta"] = {"views": view, **section}
    write_json(folder / f"{verb}.json", result)
    written = [folder / f"{verb}.json", folder / f"{verb}_reliability.png"]
    charts = {
        f"{name} error {scored.evaluation.calibration_error:.4f}": reliability(scored.logits, scored.labels)
        for name, scored in (("calibration", scores["none"]), ("calibrated:", after.get("none")))
        if scored is not None
    }
    figures.save(figures.reliability(charts, f"{data.source}, {verb}: how sure, how right"), written[1])
    if fits and is_rank_zero():
        fitted_on = f"the validation split, {data.sizes['val']:,} images, {data.source}"
        written.append(calibration.store(path, loaded.sha256, fits, fitted_on))
    _print(verb, scores["none"].evaluation, f"{path}, {data.source}")
    for view, scored in scores.items():
        named = [] if view == "none" else [f"TTA {view}"]
        if named:
            print(summary_line(verb, scored.evaluation, ", ".join(["the same weights", *named])))
        if view in after:
            fitted = f"temperature {fits[view]['temperature']:.3f}, fitted on the validation split"
            print(summary_line(verb, after[view].evaluation, ", ".join([*named, fitted])))
    print(f"written {', '.join(map(str, written))}")
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
