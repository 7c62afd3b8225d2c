"""Contestants in processes of their own: what they return, how they fail, what their environment is."""

import os
from functools import partial
from pathlib import Path

import pytest

from benchmarks.processes import Measure, in_own_processes
from cifar_lightning import process
from cifar_lightning.errors import UserError


def _answer(kind: str, notes: Path, span: int) -> float:
    with notes.open("a") as file:
        print(os.getpid(), os.environ.get("THP_MEM_ALLOC_ENABLE"), file=file)
    if kind == "fails":
        raise ValueError("not today")
    if kind == "dies":
        os._exit(9)
    return span * 2.0


def make(kind: str, notes: Path) -> Measure:
    """What measures in the process: an answer, an error, or an end."""
    return partial(_answer, kind, notes)


def test_each_measures_in_its_own_process_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    monkeypatch.setattr(process, "set_here", {"THP_MEM_ALLOC_ENABLE"})
    notes = {name: tmp_path / name for name in ("ours", "plain")}
    makers = {name: (make, ("answers", path)) for name, path in notes.items()}
    with in_own_processes(makers, tuned=["ours"]) as contestants:
        assert {name: rate(8) for name, rate in contestants.items()} == {"ours": 16.0, "plain": 16.0}
        assert contestants["ours"](8) == 16.0
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    lines = {name: path.read_text().split("\n")[:-1] for name, path in notes.items()}
    assert len(set(lines["ours"])) == 1  # the same process each time
    processes = {name: line[0].split()[0] for name, line in lines.items()}
    assert len({*processes.values(), str(os.getpid())}) == 3
    assert lines["ours"][0].split()[1] == "1"
    assert lines["plain"][0].split()[1] == "None"  # as in a script that knows nothing of us
    for pid in processes.values():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_what_is_raised_there_is_raised_here(tmp_path: Path) -> None:
    makers = {kind: (make, (kind, tmp_path / kind)) for kind in ("fails", "dies")}
    with in_own_processes(makers, tuned=[]) as contestants:
        with pytest.raises(ValueError, match="not today"):
            contestants["fails"](8)
        with pytest.raises(UserError, match="the process of the contestant 'dies' died"):
            contestants["dies"](8)
