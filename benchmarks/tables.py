"""The tables in README.md and docs/, written from the files under `results/`.

    python -m benchmarks tables

`study --publish` and the benchmarks that the documents name write those files. A table stands where the marks of its
name stand, in whichever document.
"""

import argparse
import json
import re
import statistics
from dataclasses import astuple
from pathlib import Path
from typing import Any

from benchmarks.figures import FIGURES
from benchmarks.ladder import rungs
from benchmarks.measure import ratio
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs.atomic import write_text
from cifar_lightning.runs.environment import place
from cifar_lightning.runs.record import RESULTS, RunRecord, read_run, study_folder
from cifar_lightning.runs.results import read_results
from cifar_lightning.study.metrics import METRICS, UNKNOWN
from cifar_lightning.study.plan import duration
from cifar_lightning.study.spec import read_study
from cifar_lightning.study.stats import summarise, welch

README = Path("README.md")
REPORT = Path("configs/report")
SEARCHED = Path("configs/searched")  # the study that confirms what `search report` has found
# What the course report says of its own systems, by recipe, in its own words.
REPORT_SAYS = {
    "final": "78.34%",
    "batch256": "worse than final",
    "narrow": "worse than final",
    "no_dropout": "about 63%",
}
MARKS = re.compile(
    r"(?P<begin><!-- (?P<name>\w+): written by `python -m benchmarks tables` -->\n)"
    r".*?"
    r"(?P<end><!-- end of (?P=name) -->)",
    re.DOTALL,
)


def main_table(results: Path) -> str:
    """The results in short: a line per rung of the ladder."""
    lines = ["| training | n | test accuracy | with TTA | time | machine |", "|---|--:|--:|--:|--:|---|"]
    for rung in rungs(results):
        cells = [f"{rung.name} (its author's accuracy)", ""]
        if rung.n:
            config = rung.name if rung.name.startswith("report/") else f"speed/{rung.name}"
            cells = [f"[{rung.name}](configs/{config}.yaml)", str(rung.n)]
        for score in (rung.plain, rung.tta):
            deviation = f" ± {100 * score.sd:.2f}" if score and score.sd is not None else ""
            cells.append(f"{score.accuracy:.2%}{deviation}" if score else "")
        cells += [f"{rung.last.seconds:,.0f} s", rung.machine]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def report_table(results: Path) -> str:
    """A line per system of the report, from the runs that its study has published."""
    names = ("test_accuracy", "test_loss", "train_loss")
    lines = [
        f"| system | n | {' | '.join(METRICS[name].title for name in names)} | the report says |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for system in read_study(REPORT).systems:
        files = sorted(study_folder(results, REPORT.name, system.name).glob("*.json"))
        runs = [content for content in map(read_run, files) if content.run.status == "finished"]
        cells = [system.title, str(len(runs))]
        for metric in (METRICS[name] for name in names):
            values = [value for run in runs if (value := metric.read(run)) is not None]
            cells.append(metric.show_summary(*astuple(summarise(values))[1:]) if values else UNKNOWN)
        lines.append(f"| {' | '.join([*cells, system.says or UNKNOWN])} |")
    return "\n".join(lines)


def search_table(results: Path) -> str:
    """Base and best of the search over the report's model, and what the study that confirms them has published."""
    found, study = _read(results / "search-report.json"), read_study(SEARCHED)
    metric, accuracies = METRICS["test_accuracy"], dict[str, list[float]]()
    lines = [
        f"| settings | validation accuracy, {found['epochs']} epochs, one seed | test accuracy, 30 epochs | n |",
        "|---|--:|--:|--:|",
    ]
    for system in study.systems:
        files = sorted(study_folder(results, study.name, system.name).glob("*.json"))
        runs = [content for content in map(read_run, files) if content.run.status == "finished"]
        values = accuracies[system.name] = [value for run in runs if (value := metric.read(run)) is not None]
        shown = metric.show_summary(*astuple(summarise(values))[1:])
        lines.append(f"| {system.title} | {metric.show(found[system.name]['value'])} | {shown} | {len(values)} |")
    gain = welch(accuracies["best"], accuracies["base"])
    assert gain.low is not None
    assert gain.high is not None
    points = f"{100 * gain.difference:+.2f} points of test accuracy ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
    machine, pruned = found["machines"][0], sum(trial["status"] == "pruned" for trial in found["trials"])
    where = f"{machine['place']} per trial, commit {machine['commit'][:7]}"
    end = f"{points}, Welch's 95% interval. {len(found['trials'])} trials, {pruned} of them pruned, in "
    return "\n".join([*lines, "", f"The difference: {end}{duration(found['elapsed_s'])}; {where}."])


def search_cost_table(results: Path) -> str:
    """What a trial costs beside plain Optuna, and for each seed a search with pruning beside one without."""
    if not (results / "search-pruning.json").exists():
        return "Not recorded yet."
    overhead, pruning = (_read(results / f"search-{name}.json") for name in ("overhead", "pruning"))
    ours, plain = (overhead["seconds_per_trial"][name] for name in ("search", "optuna"))
    times, medians = ratio(ours, plain), [f"{statistics.median(values):.2f} s" for values in (ours, plain)]
    spread = f"{times['min']:.2f} to {times['max']:.2f}, {len(ours)} rounds in turn"
    lines = [
        f"A trial took {medians[0]} through `search` and {medians[1]} through plain Optuna: "
        f"{times['median']:.2f} times as long ({spread}).",
        "",
        "| seed | trials an hour, no pruning | Hyperband | best, no pruning | Hyperband | Hyperband was level after |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for search in pruning["searches"]:
        ways = [search[name] for name in ("none", "hyperband")]
        level = "never"
        if search["hours_until_level"] is not None:
            level = f"{search['hours_until_level'] / ways[0]['hours']:.0%} of the time"
        cells = [str(search["seed"]), *(f"{way['trials_per_hour']:.0f}" for way in ways)]
        cells += [METRICS["val_accuracy"].show(way["best"]) for way in ways]
        lines.append(f"| {' | '.join([*cells, level])} |")
    minutes = f"{60 * pruning['searches'][0]['none']['hours']:.0f} minutes"
    where = f"{place(pruning['hardware'])}, torch {pruning['versions']['torch']}, commit {pruning['commit'][:7]}"
    return "\n".join([*lines, "", f"{len(pruning['searches'])} searches of {minutes} each way, in turn; {where}."])


def runs_table(results: Path) -> str:
    """A line per recipe, over all seeds that the verb `record` has recorded."""
    recipes: dict[str, list[tuple[Path, RunRecord]]] = {}
    for path, files in read_results(results):
        recipes.setdefault(files.run.recipe, []).append((path, files.run))
    lines = [
        "| recipe | trained on | batch | epochs | test accuracy | n | the report says | training took | runs |",
        "|---|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    for recipe, members in sorted(recipes.items()):
        first, runs = members[0][1], [run for _, run in members]
        accuracies = [run.metrics["test"]["accuracy"] for run in runs]
        deviation = f" ± {statistics.stdev(accuracies):.2%}" if len(runs) > 1 else ""
        minutes = statistics.median(run.timings["train_s"] for run in runs) / 60
        cells = (
            recipe,
            f"{first.data['train']:,}",
            first.config["data"]["batch_size"],
            first.metrics["epochs"],
            f"{statistics.mean(accuracies):.2%}{deviation}",
            len(runs),
            REPORT_SAYS.get(recipe, ""),
            f"{minutes:.0f} min, {place(first.hardware)}, {first.precision}",
            " ".join(f"[s{run.seed}]({path.as_posix()})" for path, run in members),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def speed_table(results: Path) -> str:
    """A line per recorded recipe, `speed_<recipe>.json`, with the operations that flops.py counted of it."""
    flops = {row["config"]: row["total"] for row in _read(results / "flops.json")["recipes"]}
    lines = [
        "| recipe | n | test accuracy (95% interval of the mean) | time | with TTA | time | against | its time in "
        "float32 | in bf16 | PFLOP | machine |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|--:|---|",
    ]
    for path in sorted(results.glob("speed_*.json")):
        result, name = _read(path), path.stem.removeprefix("speed_")
        config, rival = f"configs/speed/{name}.yaml", result.get("rival")
        against = ["", "", ""]
        if rival:
            # A rival that augments its test is compared with the recipe's time with the same, where it has one.
            with_tta = "evaluation_s" in rival["rounds"][0] and "tta" in result
            ratios, than = (
                (result["rival_over_recipe_tta"], " as with TTA") if with_tta else (result["rival_over_recipe"], "")
            )
            against = [rival["name"]] + [
                f"{rival['median_s'][precision]:,.0f} s, {_times(ratios[precision])} as long{than}"
                for precision in ("float32", "bf16")
            ]
        tta = ["", ""]
        if "tta" in result:
            accuracy = _accuracy(result["test_accuracy_tta"])
            tta = [f"{result['tta']}: {accuracy}", f"{result['median_s']['total_tta_s']:,.1f} s"]
        cells = [
            f"[{name}]({config}), [runs]({path.as_posix()})",
            str(result["n"]),
            _accuracy(result["test_accuracy"]),
            f"{result['median_s']['total_s']:,.1f} s",
            *tta,
            *against,
            f"{flops[config] / 1e15:.4f}",
            f"{place(result['hardware'])}, {result['precision']}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def flops_table(results: Path) -> str:
    """A line per recipe that flops.py counted, and those whose authors give a figure."""
    result = _read(results / "flops.json")
    lines = ["| operations | batch | steps | PFLOP of training and test | TTA adds at most |", "|---|--:|--:|--:|--:|"]
    for row in result["recipes"]:
        tta = f"{row['tta_at_most'] / 1e15:.4f}" if row["tta_at_most"] else ""
        link = f"[{row['config'].removeprefix('configs/')}]({row['config']})"
        lines.append(f"| {link} | {row['batch_size']:,} | {row['steps']:,} | {row['total'] / 1e15:.4f} | {tta} |")
    lines += [f"| {name} |  |  | {flop / 1e15:g} |  |" for name, flop in result["published"].items()]
    return "\n".join(lines)


def ablation_table(results: Path) -> str:
    """A table per recipe, `ablation_<recipe>.json`, with a line per variant, in the order of their loss."""
    tables = []
    for path in sorted(results.glob("ablation_*.json")):
        result, recipe = _read(path), path.stem.removeprefix("ablation_")
        lines = [f"| {recipe} with | n | validation accuracy | difference in points (95% interval) |"]
        lines.append("|---|--:|--:|--:|")
        for row in sorted(result["variants"], key=lambda row: -row.get("difference", {"mean": 1.0})["mean"]):
            cells = [row["name"], str(result["n"]), f"{row['mean']:.2%} ± {row['sd']:.2%}"]
            if difference := row.get("difference"):
                mean, low, high = (100 * difference[key] for key in ("mean", "low", "high"))
                cells.append(f"{mean:+.2f} ({low:+.2f} to {high:+.2f})")
            else:
                cells.append("")
            lines.append(f"| {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def augmentation_table(results: Path) -> str:
    """A line per augmentation with its step beside the step without any."""
    result = _read(results / "augmentation.json")
    lines = ["| augmentation | a step | times the step without any (least to greatest) |", "|---|--:|--:|"]
    for name, step in result["ms_per_step"].items():
        times = result["ratio"].get(name)  # none for the step without any
        shown = f"{times['median']:.2f} ({times['min']:.2f} to {times['max']:.2f})" if times else ""
        lines.append(f"| {name} | {step['median']:.1f} ms | {shown} |")
    machine = f"{place(result['hardware'])}, {result['precision']}, torch {result['versions']['torch']}"
    conditions = f"Medians of rounds in turn, batch {result['batch_size']}, {machine}."
    return "\n".join([*lines, "", f"{conditions} A ratio is the median of the rounds' own ratios."])


def convolution_table(results: Path) -> str:
    """A line per machine, net and image size: a step, and its share of the step with torch's own convolutions."""
    lines = [
        "| machine | step of | batch | as it is | with torch's own convolutions | ratio (least to greatest) |",
        "|---|---|--:|--:|--:|--:|",
    ]
    conditions = []
    for path in sorted(results.glob("convolution*.json")):
        result = _read(path)
        machine = place(result["hardware"])
        for name, case in result["cases"].items():
            ours, torchs = (f"{step['median']:,.0f} ms" for step in case["ms_per_step"].values())
            share = "{median:.2f} ({min:.2f} to {max:.2f})".format(**case["ratio"])
            lines.append(f"| {machine} | {name} | {case['batch_size']} | {ours} | {torchs} | {share} |")
        torchs = f"torch {result['versions']['torch']}"
        conditions.append(f"{machine}, {result['precision']}, {torchs}; commit {result['commit'][:7]}")
    return "\n".join([*lines, "", f"Medians of rounds in turn. {'. '.join(conditions)}."])


def trials_table(results: Path) -> str:
    """A line per try of a speed recipe on the validation split, kept or not."""
    if not (path := results / "trials.json").exists():
        return "Not recorded yet."
    lines = [
        "| recipe | tried | n | validation accuracy with TTA (95% interval) | validation loss | PFLOP of training | "
        "verdict |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    commits: dict[str, None] = {}
    for recipe, tries in _read(path).items():
        for name, entry in tries.items():
            found = entry["val_accuracy_tta"]
            spread = f" ({found['low']:.2%} to {found['high']:.2%})" if "low" in found else ""  # not of one run
            accuracy = f"{found['mean']:.2%}{spread}"
            loss = f"{entry['val_loss']['mean']:.4f}" if "val_loss" in entry else ""
            cells = [recipe, name, str(entry["n"]), accuracy, loss, f"{entry['train_flop'] / 1e15:.4f}"]
            lines.append(f"| {' | '.join([*cells, entry.get('verdict', '')])} |")
            commits[f"{place(entry['hardware'])}, {entry['precision']}, commit {entry['commit'][:7]}"] = None
    return "\n".join([*lines, "", f"{'; '.join(commits)}."])


def predict_table(results: Path) -> str:
    """What a picture costs in `predict`, by stage, and the net's forms beside each other."""
    result = _read(results / "predict.json")
    stages, forms = result["stages"], result["forms"]
    lines = ["| the report's net | PNG 32x32 | JPEG 640x480 |", "|---|--:|--:|"]
    kinds = ("PNG 32x32", "JPEG 640x480")
    decoded = [f"{1e3 * stages[f'decode and resize, {kind}']['median']:.2f} ms" for kind in kinds]
    rates = [f"{stages[f'everything, {kind}']['median']:,.0f} a minute" for kind in kinds]
    lines.append(f"| to decode and resize a picture, on one thread | {' | '.join(decoded)} |")
    lines.append(f"| everything, from file to verdict | {' | '.join(rates)} |")
    batches = list(forms)
    lines += ["", f"| the net in a batch of | {' | '.join(name.removeprefix('batch ') for name in batches)} |"]
    lines.append("|---|" + "--:|" * len(batches))
    for form in forms[batches[0]]["seconds"]:
        times = [f"{1e3 * forms[batch]['seconds'][form]['median']:.2f} ms" for batch in batches]
        lines.append(f"| {form} | {' | '.join(times)} |")
    hardware = result["hardware"]
    machine = f"{hardware['threads']} threads of {hardware['cpu']}, torch {result['versions']['torch']}"
    return "\n".join([*lines, "", f"Medians of rounds in turn, {machine}."])


def bench_table(results: Path) -> str:
    """A line per figure of `bench`, and the machine, the versions and the commit under them."""
    content = _read(results / "bench.json")
    lines = [
        "| figure | median | least to greatest | rounds | compared with | ratio (least to greatest) |",
        "|---|--:|--:|--:|---|--:|",
    ]
    for section, figures in FIGURES.items():
        if section in content:  # there is no profile of a GPU
            lines += [f"| {' | '.join(figure.cells())} |" for figure in figures(content[section])]
    hardware, versions = content["hardware"], content["versions"]
    machine = f"{hardware['threads']} threads of {hardware['cpu']}"
    if "gpu" in hardware:
        machine = f"{hardware['gpu']}, {machine}"
    commit = "no commit" if content["commit"] is None else f"commit {content['commit'][:7]}"
    changed = " with changes" if content["dirty"] else ""
    packages = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "torchvision", "lightning"))
    quick = " A quick run: no figure to build on." if content["quick"] else ""
    conditions = (
        f"{machine}; precision {content['precision']}; {packages}; {commit}{changed}; {content['started_at'][:10]}; "
        f"`{content['command']}`. A ratio is the median of the rounds' own ratios.{quick}"
    )
    return "\n".join([*lines, "", conditions])


def guests_table(results: Path) -> str:
    """What `benchmarks guests` found of Lightning's callbacks, loggers and Trainer flags."""
    if not (path := results / "guests.json").exists():
        return "Not recorded yet: `python -m benchmarks guests`."
    content = _read(path)
    lines, refused = list[str](), ["| | does not work | what fit says |", "|---|---|---|"]
    for kind, named in (("Callbacks", "callbacks"), ("Loggers", "loggers"), ("Trainer flags", "flags")):
        cases = content.get(named, {})
        works = ", ".join(f"`{name}`" for name, case in cases.items() if case["outcome"] == "works")
        lines.append(f"- {kind} that work: {works}.")
        for name, case in cases.items():
            if case["outcome"] != "works":
                outcome = "" if case["outcome"] == "refused" else "FAILED: "
                refused.append(f"| {kind} | `{name}` | {outcome}{case['reason'].replace('|', '/')} |")
    lines += ["", *refused]
    versions = ", ".join(f"{name} {content['versions'][name]}" for name in ("lightning", "torch"))
    return "\n".join([*lines, "", f"{versions}; commit {content['commit'][:7]}."])


TABLES = {
    "guests": guests_table,
    "main": main_table,
    "report": report_table,
    "search": search_table,
    "search_cost": search_cost_table,
    "runs": runs_table,
    "speed": speed_table,
    "flops": flops_table,
    "ablation": ablation_table,
    "augmentation": augmentation_table,
    "convolution": convolution_table,
    "trials": trials_table,
    "predict": predict_table,
    "bench": bench_table,
}


def written(text: str, results: Path, root: str = "") -> str:
    """A document's text with the tables between its marks as the results say; `root` leads links to the repository."""

    def table(mark: re.Match[str]) -> str:
        content = TABLES[mark["name"]](results).replace("](", f"]({root}")
        return f"{mark['begin']}{content}\n{mark['end']}"

    return MARKS.sub(table, text)


def _accuracy(interval: dict[str, float]) -> str:
    percent = {name: 100 * value for name, value in interval.items()}
    return "{mean:.2f}% ± {sd:.2f} ({low:.2f} to {high:.2f})".format(**percent)


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.2f} times"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: list[str]) -> int:
    """Reads and writes.

    Raises:
        ConfigError: a table has no place, or two.
    """
    argparse.ArgumentParser("python -m benchmarks tables", description=__doc__.splitlines()[0]).parse_args(argv)
    documents = {path: path.read_text(encoding="utf-8") for path in (README, *sorted(Path("docs").glob("*.md")))}
    places = sorted(mark["name"] for text in documents.values() for mark in MARKS.finditer(text))
    if places != sorted(TABLES):
        raise ConfigError(f"the documents have marks of {', '.join(places)}; needed, once each: {', '.join(TABLES)}")
    for path, text in documents.items():
        write_text(path, written(text, RESULTS, "../" if path.parent.name else ""))
    print(f"written  the tables in {', '.join(map(str, documents))}")
    return 0
