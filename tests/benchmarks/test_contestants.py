"""The loops that are compared: each really trains, and leaves nothing behind."""

import logging
import math
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from rich.console import Console

from benchmarks import contestants, step, training
from benchmarks.contestants import OneLayer, Span, Stopwatch
from benchmarks.workbench import Workbench
from cifar_lightning.classifier import Classifier
from cifar_lightning.nets.report_cnn import ReportCNN
from cifar_lightning.study.flops import count
from cifar_lightning.training.callbacks.graceful_stop import Stopped
from cifar_lightning.training.callbacks.progress import ProgressLines

SPAN = Span(batch_size=8, warmup_steps=1, steps=2)
HANDLED = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("name", [training.OURS, training.BARE, training.PLAIN, training.PLAIN_MIXED])
def test_every_training_gives_a_rate(bench: Workbench, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    handlers = [signal.getsignal(signum) for signum in HANDLED]
    rate = training.in_this_process(bench, workers=0)[name](SPAN)
    assert math.isfinite(rate)
    assert rate > 0
    assert [signal.getsignal(signum) for signum in HANDLED] == handlers
    assert capfd.readouterr() == ("", "")


def test_ours_is_what_fit_trains_with_and_its_bar_draws(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def note(self: Callback, trainer: Any, *others: Any) -> None:
        seen["callbacks"] = [type(callback).__name__ for callback in trainer.callbacks]
        seen["bar"] = any(
            isinstance(callback, ProgressLines) and callback.progress is not None for callback in trainer.callbacks
        )
        seen["logger"] = type(trainer.logger).__name__
        seen["precision"] = trainer.precision

    monkeypatch.setattr(Stopwatch, "on_train_batch_start", note)
    contestants.ours(bench, contestants.our_experiment(bench, SPAN), SPAN)
    assert {"RunTimer", "LearningCurves", "ProgressLines", "RunState", "GracefulStop"} < set(seen["callbacks"])
    assert {"EpochCheckpoint", "LastCheckpoint"} < set(seen["callbacks"])
    assert seen["bar"]
    assert seen["logger"] == "RunTensorBoard"
    assert seen["precision"] == bench.precision


def test_a_signal_ends_the_benchmark_and_not_one_training(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Stopwatch) -> None:
        raise Stopped("stopped", signal.SIGINT)

    monkeypatch.setattr(Stopwatch, "count", stop)
    with pytest.raises(KeyboardInterrupt):
        contestants.ours(bench, contestants.our_experiment(bench, SPAN), SPAN)


def test_what_is_out_of_sight_still_draws(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with contestants.out_of_sight():
        assert sys.stdout.isatty()
        assert Console().is_terminal
        print("out")
        print("err", file=sys.stderr)
        warnings.warn("use more workers", stacklevel=1)
        logging.getLogger("lightning.pytorch").warning("tip")
    assert capfd.readouterr() == ("", "")
    logging.getLogger("lightning.pytorch").warning("heard again")
    with pytest.warns(UserWarning, match="use more workers"):
        warnings.warn("use more workers", stacklevel=1)
    assert [record.message for record in caplog.records] == ["heard again"]


def test_the_overhead_s_loops_train_one_layer(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "OVERHEAD_BATCH_SIZE", 8)
    monkeypatch.setattr(step, "OVERHEAD_WARMUP_STEPS", 1)
    result = step.overhead(bench, {"8": {"images_per_s": {"ours": {"median": 800.0}}}})
    assert list(result["us_per_step"]) == [step.BARE, step.OFF, step.OURS]
    values = {name: summary["values"] for name, summary in result["us_per_step"].items()}
    first = 0
    assert result["trainer_us"]["values"][first] == values[step.OFF][first] - values[step.BARE][first]
    assert result["ours_us"]["values"][first] == values[step.OURS][first] - values[step.OFF][first]
    assert result["share_of_step"]["8"]["step_us"] == pytest.approx(10_000)
    assert result["share_of_step"]["8"]["ours"] == pytest.approx(result["ours_us"]["median"] / 10_000)
    parts = result["parts_us"]
    assert {"NanGuard", "RunTimer", "metrics"} < set(parts)
    assert list(parts.values()) == sorted(parts.values(), reverse=True)
    assert min(parts.values()) > 0
    assert OneLayer()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_clock_runs_from_the_end_of_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now_s)
    stopwatch = Stopwatch(Span(batch_size=8, warmup_steps=2, steps=3), torch.device("cpu"))
    for step_s in (100.0, 100.0, 1.0, 2.0, 3.0, 100.0):
        if now_s < 206:
            with pytest.raises(RuntimeError, match="of the 5 to be timed"):
                _ = stopwatch.seconds_per_step
        now_s += step_s
        stopwatch.count()
    assert stopwatch.seconds_per_step == 2.0


def test_a_span_ends_before_the_first_epoch(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    step_s = 1e-9  # as if a step took no time at all
    fast: Callable[..., float] = lambda *arguments: step_s  # noqa: E731
    monkeypatch.setattr(training, "bare_loop", fast)
    span = training.span_of(bench, 8)  # 40 images are 5 batches
    assert span == Span(batch_size=8, warmup_steps=1, steps=3)


def test_the_flop_count_is_that_of_the_layers() -> None:
    convolutions = [(32 * 32, 3 * 25, 32), (16 * 16, 32 * 25, 64), (8 * 8, 64 * 25, 128)]
    dense = [(1, 2048, 100), (1, 100, 50), (1, 50, 10)]
    forward = [2 * pixels * inputs * outputs for pixels, inputs, outputs in convolutions + dense]
    # Backward takes as much for the weights and once more for the inputs, of which the images need none.
    expected = 3 * sum(forward) - forward[0]
    assert count(Classifier(ReportCNN()), 1)["step"] == pytest.approx(expected, rel=0.03)
    assert count(Classifier(ReportCNN()), 4)["step"] / 4 == pytest.approx(expected, rel=0.03)
