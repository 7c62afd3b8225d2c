"""Schedules as tables of expected factors, and through LambdaLR by step."""

import math
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from cifar_lightning.optim.schedules import CosineLR, ProgressLR, TriangularLR


@pytest.mark.parametrize(
    ("progress", "start", "peak", "end", "factor"),
    [
        (0.0, 0.2, 0.25, 0.1, 0.2),
        (0.125, 0.2, 0.25, 0.1, 0.6),
        (0.25, 0.2, 0.25, 0.1, 1.0),
        (0.625, 0.2, 0.25, 0.1, 0.55),
        (1.0, 0.2, 0.25, 0.1, 0.1),
        (0.0, 0.5, 0.0, 0.0, 1.0),  # no way up: a straight line down
        (0.75, 0.5, 0.0, 0.0, 0.25),
        (1.0, 0.0, 0.5, 0.0, 0.0),
    ],
)
def test_triangular(progress: float, start: float, peak: float, end: float, factor: float) -> None:
    assert TriangularLR(sgd(), start, peak, end).factor(progress) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("progress", "warmup", "end", "factor"),
    [
        (0.0, 0.0, 0.0, 1.0),
        (0.5, 0.0, 0.0, 0.5),
        (0.25, 0.0, 0.0, (1 + math.sqrt(0.5)) / 2),
        (1.0, 0.0, 0.1, 0.1),
        (0.05, 0.1, 0.0, 0.5),
        (0.1, 0.1, 0.0, 1.0),
        (0.55, 0.1, 0.2, 0.6),
    ],
)
def test_cosine(progress: float, warmup: float, end: float, factor: float) -> None:
    assert CosineLR(sgd(), warmup, end).factor(progress) == pytest.approx(factor)


def rates(scheduler: LRScheduler, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=2.0)


def test_the_rate_of_each_step() -> None:
    scheduler = TriangularLR(sgd(), start=0.5, peak=0.5)
    scheduler.span(4)
    assert rates(scheduler, 6) == pytest.approx([1.0, 1.5, 2.0, 1.0, 0.0, 0.0])  # past the end it stays there


def test_every_parameter_group_keeps_its_share() -> None:
    weights = [torch.nn.Parameter(torch.zeros(())) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:], "lr": 10.0}])
    scheduler = CosineLR(optimizer)
    scheduler.span(2)
    rates(scheduler, 1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 5.0])


def test_the_state_holds_the_position_and_not_the_length(tmp_path: Path) -> None:
    first = TriangularLR(sgd())
    first.span(4)
    rates(first, 2)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = TriangularLR(sgd())
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    second.span(8)  # where training starts again
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * (1 - 2 / 8))
    second.step()
    assert second.total_steps == 8
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * (1 - 3 / 8))


def test_no_length_is_an_error_and_not_a_rate() -> None:
    scheduler = CosineLR(sgd())
    scheduler.optimizer.step()
    with pytest.raises(RuntimeError, match="CosineLR does not know the training's length"):
        scheduler.step()


@pytest.mark.parametrize(
    ("make", "arguments", "text"),
    [
        (TriangularLR, {"start": 1.5}, "start is a share of the rate, from 0 to 1, got 1.5"),
        (TriangularLR, {"end": -0.1}, "end is a share"),
        (TriangularLR, {"peak": 1.0}, "peak is a point of the training, from 0 to below 1, got 1.0"),
        (CosineLR, {"warmup": -1.0}, "warmup is a point"),
        (CosineLR, {"end": 2.0}, "end is a share"),
    ],
)
def test_out_of_range(make: type[ProgressLR], arguments: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(sgd(), **arguments)
