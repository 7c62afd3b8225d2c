"""InNoHurry: once in a run, after a minute or at the end, and after an early stop when the run goes on."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from lightning.pytorch import LightningModule, Trainer
from tiny import TINY_FLAGS

from cifar_lightning.training.callbacks import in_no_hurry
from cifar_lightning.training.callbacks.in_no_hurry import InNoHurry

TRAINER = cast(Trainer, SimpleNamespace(is_global_zero=True))
MODULE = cast(LightningModule, None)


@pytest.mark.parametrize(("patience_s", "done_after"), [(0.0, "first epoch"), (3600.0, "end")])
def test_after_a_minute_or_at_the_end(patience_s: float, done_after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_no_hurry, "PATIENCE_S", patience_s)
    done: list[str] = []
    reached = ["start"]
    callback = InNoHurry(lambda: done.append(reached[-1]))
    callback.on_train_start(TRAINER, MODULE)
    for epoch in ("first epoch", "second epoch"):
        reached.append(epoch)
        callback.on_train_epoch_end(TRAINER, MODULE)
    reached.append("end")
    callback.on_train_end(TRAINER, MODULE)
    assert done == [done_after]


def test_a_finished_run_that_is_extended_is_described_once(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[object] = []
    monkeypatch.setattr("cifar_lightning.training.fit.describe", lambda *parts: described.append(parts))
    assert run("fit", *TINY_FLAGS, "--trainer.max_epochs=1")[0] == 0
    assert run("fit", "--ckpt=last", "--trainer.max_epochs=2")[0] == 0
    assert len(described) == 1


@pytest.mark.parametrize("was_done", [True, False])
def test_a_run_that_goes_on_does_what_is_left(was_done: bool) -> None:
    first = InNoHurry(lambda: None)
    if was_done:
        first.on_train_end(TRAINER, MODULE)
    done: list[int] = []
    second = InNoHurry(lambda: done.append(1))
    second.load_state_dict(first.state_dict())
    second.on_train_end(TRAINER, MODULE)
    assert len(done) == (0 if was_done else 1)
