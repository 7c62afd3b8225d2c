"""The rungs of the ladder: every recorded recipe and the rivals timed beside them, and their chart."""

from pathlib import Path

from benchmarks import ladder
from benchmarks.ladder import Rung, Score

PROJECT = Path(__file__).parents[2]


def test_every_recorded_recipe_and_each_rival_is_one_rung() -> None:
    found = ladder.rungs(PROJECT / "results")
    names = [rung.name for rung in found]
    recipes = {path.stem.removeprefix("speed_") for path in (PROJECT / "results").glob("speed_*.json")}
    assert sorted(names) == sorted({"report/final", *recipes, *ladder.PUBLISHED})
    for rung in found:
        assert (rung.n is None) == (rung.name in ladder.PUBLISHED)
        assert (rung.last.sd is None) == (rung.n is None)  # only ours were scored
    accuracies = [rung.last.accuracy for rung in found]
    assert accuracies == sorted(accuracies)


def test_a_rung_stands_at_its_seconds_and_a_rival_is_hollow() -> None:
    own = Rung("ours", 5, "a CPU", Score(0.93, 10.0, 0.01), Score(0.94, 11.0, 0.01))
    rival = Rung("theirs", None, "a CPU", tta=Score(0.94, 20.0))
    (axes,) = ladder.draw([own, rival]).axes
    assert axes.get_xscale() == "log"
    drawn = {
        tuple(line.get_xdata()): line
        for line in axes.lines
        if len(line.get_marker()) == 1 and line.get_marker() in "os"
    }
    assert drawn[10.0, 11.0].get_ydata().tolist() == [0.93, 0.94]
    assert drawn[10.0, 11.0].get_fillstyle() == "full"
    assert drawn[(20.0,)].get_fillstyle() == "none"
    assert [text.get_text() for text in axes.texts] == ["ours", "theirs"]
