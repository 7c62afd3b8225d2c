"""Every recipe and its rivals, from their recorded runs: the rungs of README's main table, and their chart.

    python -m benchmarks ladder

draws `results/ladder.png`, test accuracy against seconds. It measures nothing.
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter

from cifar_lightning.runs.environment import place
from cifar_lightning.runs.figures import TRAIN_COLOUR, VAL_COLOUR, save
from cifar_lightning.runs.record import RESULTS, read_run, study_folder

FINAL = "final"  # the report's model, of the study `report`
# What a rival's author says that it reaches; its accuracy is not measured here.
PUBLISHED = {
    "the report's training, bare loop": 0.7834,
    "airbench94_muon": 0.9401,  # mean of 200, github.com/KellerJordan/cifar10-airbench
}


@dataclass(frozen=True)
class Score:
    """A test accuracy from 0 to 1 and the median seconds from the first step to it."""

    accuracy: float
    seconds: float
    sd: float | None = None  # None: its author's figure


@dataclass(frozen=True)
class Rung:
    """A training: without and with test-time augmentation, over n seeds, on one or more machines."""

    name: str
    n: int | None  # None: a rival, whose accuracy is its author's
    machine: str
    plain: Score | None = None
    tta: Score | None = None

    @property
    def last(self) -> Score:
        """The better score."""
        score = self.tta or self.plain
        assert score is not None
        return score


def rungs(results: Path) -> list[Rung]:
    """The report's final model, every `speed_<recipe>.json`, and the rivals timed beside them, by their accuracy.

    A rival stands there in the precision that is faster on that machine.
    """
    files = sorted(study_folder(results, "report", FINAL).glob("*.json"))
    runs = [content.run for content in map(read_run, files) if content.run.status == "finished"]
    accuracies = [run.metrics["test"]["accuracy"] for run in runs]
    plain = Score(
        statistics.mean(accuracies),
        statistics.median(run.timings["train_s"] for run in runs),
        statistics.stdev(accuracies),
    )
    machines = ", ".join(sorted({f"{place(run.hardware)}, {run.precision}" for run in runs}))
    found = [Rung(f"report/{FINAL}", len(runs), machines, plain)]
    for path in sorted(results.glob("speed_*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        seconds, hardware = result["median_s"], place(result["hardware"])
        own = {
            suffix: Score(accuracy["mean"], seconds[f"total{suffix}_s"], accuracy["sd"])
            for suffix in ("", "_tta")
            if (accuracy := result.get(f"test_accuracy{suffix}"))
        }
        name, machine = path.stem.removeprefix("speed_"), f"{hardware}, {result['precision']}"
        found.append(Rung(name, result["n"], machine, own[""], own.get("_tta")))
        if (rival := result.get("rival")) and rival["name"] not in {rung.name for rung in found}:
            precision = min(rival["median_s"], key=rival["median_s"].__getitem__)
            score = Score(PUBLISHED[rival["name"]], rival["median_s"][precision])
            scores = {"tta" if "evaluation_s" in rival["rounds"][0] else "plain": score}
            found.append(Rung(rival["name"], None, f"{hardware}, {precision}", **scores))
    return sorted(found, key=lambda rung: rung.last.accuracy)


def draw(found: list[Rung]) -> Figure:
    """Test accuracy against seconds on a log axis: ours filled, joined where there are two scores; rivals hollow."""
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for rung in found:
        scores = [score for score in (rung.plain, rung.tta) if score]
        colour, marker = (VAL_COLOUR, "s") if rung.n is None else (TRAIN_COLOUR, "o")
        seconds, accuracies = [score.seconds for score in scores], [score.accuracy for score in scores]
        fill = "none" if rung.n is None else "full"
        axes.errorbar(
            seconds, accuracies, [score.sd or 0.0 for score in scores], marker=marker, fillstyle=fill, color=colour,
            capsize=3,
        )  # fmt: skip
        axes.annotate(
            rung.name, (rung.last.seconds, rung.last.accuracy), (0, 9 if rung.n else -15), ha="center", color=colour,
            textcoords="offset points", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(right=3 * max(rung.last.seconds for rung in found))  # room for the names
    axes.margins(y=0.15)
    axes.yaxis.set_major_locator(MultipleLocator(0.02))
    axes.set_xlabel("seconds from the first step to the score; each on the machine of its row in the table")
    axes.set_ylabel("test accuracy, mean ± sd")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.grid(alpha=0.3, which="both")
    return figure


def main(argv: list[str]) -> int:
    """Reads and draws."""
    argparse.ArgumentParser("python -m benchmarks ladder", description=__doc__.splitlines()[0]).parse_args(argv)
    save(draw(rungs(RESULTS)), RESULTS / "ladder.png")
    print(f"written  {RESULTS / 'ladder.png'}")
    return 0
