"""The page, from runs that are there: the same bytes each time, from published files alone, and in a real browser."""

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from browser import browser_page, find_browser
from PIL import Image
from study.fakes import write_run, write_study

from cifar_lightning.errors import UserError
from cifar_lightning.study.charts import shrink
from cifar_lightning.study.command import main
from cifar_lightning.study.spec import read_study

LOGS = Path("lightning_logs/tiny")
STUDY = """\
title: A <study> & its page
introduction: Four systems.
systems:
  plain: {config: base.yaml, seeds: [0, 1, 2], says: 90.00% | or so}
  wide: {config: base.yaml, overrides: {model.net.channels: [8, 8, 16]}, seeds: [0, 1, 2], title: twice the channels}
  single: {config: base.yaml, overrides: {data.batch_size: 64}}
  broken: {config: base.yaml, overrides: {model.optimizer.lr: 10}}
claims:
  - says: The plain net reaches 90%.
    checks: [{system: plain, metric: test_accuracy, expect: equal, value: 0.9, within: 0.005}]
  - says: Twice the channels raise accuracy.
    checks:
      - {compare: [wide, plain], metric: test_accuracy, expect: higher}
      - {compare: [single, plain], metric: test_accuracy, expect: lower}
  - says: The loss falls with every epoch.
    checks: [{system: plain, metric: train_loss, expect: falls}]
    remark: Each run's own curve is asked, <not> the mean.
"""
FILES = ("report.html", "report.md", "study.json")


def noise_png() -> bytes:
    """An image a little larger than that of real mistakes, which hardly compresses."""
    buffer = io.BytesIO()
    sheet = Image.new("RGB", (1080, 600), "white")
    for left in range(0, 1080, 120):
        sheet.paste(Image.effect_noise((45, 600), 100).convert("RGB"), (left, 0))
    sheet.paste(Image.radial_gradient("L").convert("RGB"), (0, 0))
    sheet.save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of eight tasks: six finished runs of two systems, one of a third, and one that failed."""
    monkeypatch.chdir(tmp_path)
    path = write_study(STUDY)
    systems = {system.name: system for system in read_study(path).systems}
    picture = noise_png()
    for seed in range(3):
        losses = (2.0, 1.5, 1.0 + seed / 10)
        write_run(LOGS, systems["plain"], seed, 0.70 + seed / 100, losses, picture=picture)
        write_run(LOGS, systems["wide"], seed, 0.80 + seed / 100, losses)
    write_run(LOGS, systems["single"], 0, 0.6, val_losses=(1.5, 1.25, 1.75))
    write_run(
        LOGS,
        systems["broken"],
        0,
        0.1,
        (9.0,),
        status="failed",
        error="NonFiniteError: the loss in /home/someone/batch is nan",
    )
    return path


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longest, and not every test looks at it."""
    monkeypatch.setattr("cifar_lightning.study.command.draw", lambda table: {})


def gather(path: Path, *flags: str) -> dict[str, bytes]:
    with pytest.raises(UserError, match="1 of 8 runs failed"):
        main([str(path), "--gather", *flags])
    return {name: (LOGS / name).read_bytes() for name in FILES}


def test_the_table_is_computed_from_the_runs_and_always_the_same(study: Path) -> None:
    first = gather(study)
    for name in FILES:
        (LOGS / name).unlink()
    shutil.rmtree(LOGS / "figures")
    assert gather(study) == first
    table = json.loads(first["study.json"])
    systems = {system["name"]: system for system in table["systems"]}
    accuracy = systems["plain"]["metrics"]["test_accuracy"]
    assert (accuracy["n"], accuracy["values"]) == (3, [0.70, 0.71, 0.72])
    assert accuracy["mean"] == pytest.approx(0.71)
    assert accuracy["low"] == pytest.approx(0.71 - 4.302652729911275 * 0.01 / 3**0.5)  # Student's t of 2 degrees
    assert systems["plain"]["curves"]["train_loss"][-1] == {
        "epoch": 3, "n": 3, "mean": pytest.approx(1.1), "least": 1.0, "most": 1.2,
    }  # fmt: skip
    assert systems["single"]["metrics"]["test_accuracy"]["sd"] is None
    assert (systems["broken"]["n"], systems["broken"]["failed"]) == (0, 1)
    assert systems["wide"]["parameters"] > systems["plain"]["parameters"]
    assert systems["plain"]["train_flop"] > 0
    assert systems["plain"]["lowest_val_loss"] is None
    assert systems["single"]["lowest_val_loss"] == {"epoch": 2, "mean": 1.25}
    outcomes = [[check["outcome"] for check in claim["checks"]] for claim in table["claims"]]
    assert outcomes == [["contradicted"], ["supported", "not decided"], ["supported"]]
    assert [run["status"] for run in table["runs"]] == ["finished"] * 7 + ["failed"]


def test_a_changed_run_changes_the_table(study: Path, no_charts: None) -> None:
    first = gather(study)
    record = next((LOGS / "wide").glob("*/*-s1/run.json"))
    record.write_text(record.read_text().replace('"accuracy": 0.81', '"accuracy": 0.83'))
    assert gather(study)["study.json"] != first["study.json"]


def test_a_run_that_went_on_elsewhere_computed_in_two_places(study: Path, no_charts: None) -> None:
    path = next((LOGS / "wide").glob("*/*-s1/run.json"))
    record = json.loads(path.read_text())
    session = {"hardware": {"cpu": "A CPU", "threads": 1}, "dirty": True}
    record["resumed"] = [{"package_digest": record["package_digest"], **session}]
    path.write_text(json.dumps(record))
    table = json.loads(gather(study)["study.json"])
    (run,) = [run for run in table["runs"] if (run["system"], run["seed"]) == ("wide", 1)]
    assert run["machine"] == "2 threads of A CPU, 32-true / 1 thread of A CPU, 32-true"
    assert run["dirty"] is True
    (wide,) = [system for system in table["systems"] if system["name"] == "wide"]
    assert wide["machine"] == "1 thread of A CPU, 32-true / 2 threads of A CPU, 32-true"


def test_both_pages_say_the_same(study: Path) -> None:
    pages = gather(study)
    html, markdown = pages["report.html"].decode(), pages["report.md"].decode()
    for text in ("71.00%", "81.00%", "+10.00 points", "twice the channels", "no verdict with n = 1 and 3", "above"):
        assert (text in html) == (text in markdown), text
    for text in ("+10.00 points", "falls with every epoch in all 3 runs", "below the stated number"):
        assert text in html
        assert text in markdown
    assert "A &lt;study&gt; &amp; its page" in html
    assert "- **The loss falls with every epoch.** Each run's own curve is asked, <not> the mean." in markdown
    assert "<p>Each run&#39;s own curve is asked, &lt;not&gt; the mean.</p>" in html
    assert "| single | 1 | 0 | 60.00% | 1.7500 | 1.2500 | 2 | 3 |" in markdown
    assert '<td class="number">1.2500</td><td class="number">2</td><td class="number">3</td>' in html
    assert "90.00% \\| or so" in markdown  # a bar would cut the table's cell
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows if " twice the channels |" in line}) > 1
    for name in re.findall(r'(?:srcset|src)="(figures/[^"]+)"|\((figures/[^)]+)\)', markdown):
        assert (LOGS / "".join(name)).is_file(), name
    assert "the CIFAR-10 sample (6,000 images)</strong>: these are no results on CIFAR-10" in html
    assert "/home/someone" not in html


def test_a_published_study_is_its_small_files(study: Path) -> None:
    local = gather(study, "--publish", "published")
    published = {path.relative_to("published").as_posix(): path for path in Path("published").glob("**/*.*")}
    runs = [name for name in published if name.startswith("runs/tiny-") and published[name].is_file()]
    assert len(runs) == 8
    for name, path in published.items():
        if path.is_file():
            assert path.stat().st_size < 300_000, name
            assert str(Path.cwd()) not in path.read_text(errors="ignore")
    # On another machine: no run folder, and the same page.
    shutil.rmtree("lightning_logs")
    assert gather(study, "--publish", "published") == local
    assert (Path("published") / "tiny" / "report.md").read_bytes() == local["report.md"]
    assert "tiny/report.html" not in published
    # A figure of a system that is gone goes with it; the runs stay.
    assert "tiny/figures/curve-single.svg" in published
    study.write_text(STUDY.replace("  single: {", "  renamed: {").replace("[single, plain]", "[renamed, plain]"))
    with pytest.raises(UserError, match="1 of 8 runs failed"):
        main([str(study), "--gather", "--publish", "published"])
    assert not (Path("published") / "tiny" / "figures" / "curve-single.svg").exists()
    assert len(list(Path("published").glob("runs/*/*.json"))) == 8


def test_an_image_too_large_for_a_repository_gets_fewer_colours() -> None:
    large = noise_png()
    assert len(large) > 300_000
    small = shrink(large)
    assert len(small) <= 300_000
    assert Image.open(io.BytesIO(small)).size == (1080, 600)
    assert shrink(small) is small


def test_a_page_before_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(write_study(STUDY)), "--gather"]) == 0
    html = (LOGS / "report.html").read_text()
    assert "0 of 8" in html
    assert "No run has finished yet." in html


def test_the_page_in_a_browser(study: Path) -> None:
    browser = find_browser()
    if browser is None:
        pytest.skip("needs a browser: install chromium")
    html = gather(study)["report.html"].decode()
    url = (Path.cwd() / LOGS / "report.html").as_uri()
    with browser_page(browser) as page:
        for width in (1280, 390):
            page.open(url, width, is_dark=False)
            loaded = page.evaluate(
                "Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))"
            )
            assert len(loaded) == html.count("<img ") > 5
            assert min(loaded) > 0
            assert page.evaluate("[...document.images].every(image => image.alt.length > 10)")
            # Wide tables scroll inside of their own box, not with the page.
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.requests() == [url]
            assert page.complaints() == []
