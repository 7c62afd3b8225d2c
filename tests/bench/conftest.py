"""A workbench over the tiny data set."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from data.official_format import TinyDataset
from small import TINY

from cifar_lightning.bench.quiet import without_advice
from cifar_lightning.bench.workbench import Workbench, find_data


@pytest.fixture
def bench(tiny_cifar10: TinyDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    from matplotlib.figure import Figure

    from cifar_lightning.runs import figures

    # Drawing takes longer than everything else, and is no part of what is timed.
    monkeypatch.setattr(figures, "curves", lambda *arguments, **settings: Figure(figsize=(1, 1)))
    folder = tmp_path / "bench"
    folder.mkdir()
    data = find_data(TINY.val_size)
    data.setup("fit")
    with without_advice():
        yield Workbench("cpu", TINY, data, folder)
    assert not list(folder.iterdir()), "something stayed behind"
