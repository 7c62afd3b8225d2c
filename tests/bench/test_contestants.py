"""The loops that are compared: each really trains, and leaves nothing behind."""

import math
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from cifar_lightning.bench import contestants, overhead, training
from cifar_lightning.bench.one_layer import OneLayer
from cifar_lightning.bench.stopwatch import Span, Stopwatch
from cifar_lightning.bench.workbench import Workbench
from cifar_lightning.nets.report_cnn import ReportCNN
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
    contestants.ours(bench, contestants.our_experiment(bench, SPAN, []), SPAN)
    assert {"Timer", "LearningCurves", "ProgressLines", "RunState", "GracefulStop"} < set(seen["callbacks"])
    assert {"EpochCheckpoint", "LastCheckpoint"} < set(seen["callbacks"])
    assert seen["bar"]
    assert seen["logger"] == "RunTensorBoard"
    assert seen["precision"] == bench.precision


@pytest.mark.parametrize(("exit_code", "error"), [(130, KeyboardInterrupt), (143, SystemExit)])
def test_a_signal_ends_the_benchmark_and_not_one_training(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, exit_code: int, error: type[BaseException]
) -> None:
    def stop(self: Stopwatch) -> None:
        raise Stopped("stopped", exit_code - 128)

    monkeypatch.setattr(Stopwatch, "count", stop)
    handlers = [signal.getsignal(signum) for signum in HANDLED]
    with pytest.raises(error):
        contestants.ours(bench, contestants.our_experiment(bench, SPAN, []), SPAN)
    assert [signal.getsignal(signum) for signum in HANDLED] == handlers


def test_the_overhead_s_loops_train_one_layer(bench: Workbench) -> None:
    result = overhead.measure(bench, {"8": {"images_per_s": {"ours": {"median": 800.0}}}})
    assert list(result["us_per_step"]) == [overhead.BARE, overhead.OFF, overhead.OURS]
    values = {name: summary["values"] for name, summary in result["us_per_step"].items()}
    first = 0
    assert result["trainer_us"]["values"][first] == values[overhead.OFF][first] - values[overhead.BARE][first]
    assert result["ours_us"]["values"][first] == values[overhead.OURS][first] - values[overhead.OFF][first]
    assert result["share_of_step"]["8"]["step_us"] == pytest.approx(10_000)
    assert result["share_of_step"]["8"]["ours"] == pytest.approx(result["ours_us"]["median"] / 10_000)
    assert OneLayer()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_clock_runs_from_the_end_of_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now_s)
    stopwatch = Stopwatch(Span(batch_size=8, warmup_steps=2, steps=3), torch.device("cpu"))
    for step_s in (100.0, 100.0, 1.0, 2.0, 3.0, 100.0):
        if stopwatch.elapsed_s is None and now_s:
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
    assert training.flop_per_image(ReportCNN(), 1) == pytest.approx(expected, rel=0.03)
    assert training.flop_per_image(ReportCNN(), 4) == pytest.approx(expected, rel=0.03)
