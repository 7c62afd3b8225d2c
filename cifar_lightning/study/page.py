"""A study's pages, and the files that are published."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from cifar_lightning.errors import OutputError
from cifar_lightning.nets.summary import shape_text
from cifar_lightning.runs.atomic import write_bytes, write_json, write_text
from cifar_lightning.runs.record import study_folder, write_run
from cifar_lightning.study.metrics import METRICS, UNKNOWN
from cifar_lightning.study.plan import DONE, FAILED, Task, duration

FIGURES = "figures"
COULD_HAVE_SHOWN = (
    "The difference that runs could have shown is the smallest measured one that, with the spread of these runs, would "
    "have had a corrected p below 0.05."
)

Figures = Mapping[str, bytes]  # by file name


def render(template: str, table: dict[str, Any], figures: Figures) -> str:
    """One of the two pages of a table from `gather`: report.html.j2 embeds the figures, report.md.j2 links to them."""
    environment = page_environment("cifar_lightning.study", template)
    environment.globals |= {
        "titles": {system["name"]: system["title"] for system in table["systems"]},
        "figures": figures,
        "p_text": lambda p: "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}",
        "check_text": check_text,
        "could_have_shown": COULD_HAVE_SHOWN,
    }
    return environment.get_template(template).render(**table)


def page_environment(package: str, template: str) -> Environment:
    """What renders a page of a package's `templates`, which may include the study's."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("cifar_lightning.study")]),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "shape": shape_text,
        "duration": duration,
        "cell": lambda text: " ".join(text.split()).replace("|", "\\|"),  # what a Markdown table takes
        "base64": lambda content: base64.b64encode(content).decode(),
        "flop": _flop,
        "sentence": lambda text: text[:1].upper() + text[1:],
    }
    environment.globals["metrics"] = METRICS
    return environment


def check_text(check: dict[str, Any], titles: Mapping[str, str]) -> str:
    """A check in words: 'test accuracy of A higher than of B'."""
    metric = METRICS[check["metric"]]
    first = f"{metric.title} of {titles[check['systems'][0]]}"
    if check["kind"] == "difference":
        return f"{first} {check['expect']} than of {titles[check['systems'][1]]}"
    if check["kind"] == "curve":
        return f"{first} falls with every epoch"
    # As many digits as were stated: 0.3, not 0.3000.
    stated = f"{check['value'] * metric.scale:g}{metric.unit}"
    within = f" ± {check['within'] * metric.scale:g}" if check["within"] else ""
    return f"{first} {check['expect'].replace('equal', 'equal to')} {stated}{within}"


def _flop(value: float | None) -> str:
    """Operations in a unit that leaves few digits."""
    if value is None:
        return UNKNOWN
    for name, size in (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if value >= size:
            return f"{value / size:,.3g} {name}"
    return f"{value:,.0f} FLOP"


def write_study(table: dict[str, Any], figures: Figures, logs: Path) -> None:
    """study.json, report.html and report.md with its figures, into the study's folder. Raises OutputError."""
    _write_page(table, figures, logs)
    write_text(logs / "report.html", render("report.html.j2", table, figures))
    write_json(logs / "study.json", table)


def publish(table: dict[str, Any], figures: Figures, tasks: Sequence[Task], results: Path) -> None:
    """report.md and its figures into `<results>/<study>/`, one small JSON file per finished or failed run into `runs/`.

    The page can be made again from these files. Runs that are published already stay. report.html is left out: it
    embeds every figure, and a repository would keep each version of it.

    Raises OutputError: a file cannot be written.
    """
    _write_page(table, figures, results / table["name"])
    for task in tasks:
        if task.run is not None and task.action in (DONE, FAILED) and not task.run.is_published:
            target = study_folder(results, table["name"], task.system.name) / f"{task.run.name}.json"
            write_run(target, task.run.content)


def _write_page(table: dict[str, Any], figures: Figures, folder: Path) -> None:
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder / FIGURES}: {error.strerror}") from error
    for path in (folder / FIGURES).iterdir():
        if path.name not in figures and path.suffix in (".svg", ".png"):  # of a system that is gone
            path.unlink()
    for name, content in figures.items():
        write_bytes(folder / FIGURES / name, content)
    write_text(folder / "report.md", render("report.md.j2", table, figures))
