"""The parts of ``autoprune bench`` measure what they say, and nothing of the user's is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autoprune.api import queries
from autoprune.bench import big_store, channels, compiling, matmul, suite, throughput
from autoprune.bench.empty_trials import CountingSession, EmptyEvaluator
from autoprune.bench.repeats import seconds
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError
from autoprune.executors import SerialExecutor
from autoprune.models.registry import build
from autoprune.types import TrialState

TINY = suite.Effort(20, 0, 2, 1, 50, 1000, 1, 2)


class Clock:
    """One second a reading."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_warming_up_is_not_counted() -> None:
    calls: list[int] = []
    assert seconds(lambda: calls.append(1), 3, Clock()) == [1.0, 1.0, 1.0]
    assert len(calls) == 4
    assert seconds(lambda: calls.append(1), 2, Clock(), warm_up=False) == [1.0, 1.0]
    assert len(calls) == 6


def test_the_peak_counts_two_operations_a_multiply_accumulate() -> None:
    assert matmul.matmul_gflops(size=100, repeats=2, clock=Clock()) == [2e6 / 1e9] * 2


def test_throughput_is_flops_over_seconds() -> None:
    found = throughput.half_width(
        "resnet8", images=10, repeats=3, timings=lambda *_: {"slice": 0.5, "calibrate": 2.0, "evaluate": 1.0}
    )
    assert found.evaluate == found.plain_evaluate
    assert found.speed_up("calibrate") == [1.0] * 3
    assert found.slice_ms == (500.0,) * 3
    assert [2 * rate for rate in found.calibrate] == list(found.evaluate)
    # ResNet-8 at 16, 32, 64 channels has 12.5 M multiply-accumulates on 32x32; at half width about a quarter of them.
    macs = found.evaluate[0] * 1e9 / 10 / 2
    assert 2.9e6 < macs < 3.8e6


def test_the_plain_evaluator_gives_the_same_accuracy() -> None:
    assets = throughput.random_assets("resnet8", 20)
    half = {group.name: group.channels // 2 for group in assets.groups}
    candidate = throughput.Candidate(half)
    ours, plain = throughput.make_evaluator(assets), throughput.plain_evaluator(assets)
    results = [list(evaluator.evaluate(candidate))[-1].metrics for evaluator in (ours, plain)]
    assert results[0]["top1"] == results[1]["top1"]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-3)
    assert throughput.evaluation_path(plain, torch.nn.Identity()).startswith("PlainNetwork, float32")


def test_a_suggested_multiple_is_the_step_of_the_times() -> None:
    widths = range(4, 65, 4)
    rng = np.random.default_rng(0)
    for step in (4, 8, 16):
        padded = {width: (-(-width // step) * step) ** 2 * 1e-6 for width in widths}
        noisy = {width: value * rng.uniform(1, 1.05) + 1e-5 for width, value in padded.items()}
        assert channels.suggest_multiple(noisy) == step
    assert channels.suggest_multiple({4: 1.0, 8: 2.0}) == 4, "too few widths to see a step"
    assert channels.suggest_multiple(dict.fromkeys(widths, 1.0)) == 4, "all widths take the same: nothing to choose by"


def test_the_curve_has_a_time_for_each_width() -> None:
    curve = channels.measure_widths((4, 8, 12), rounds=1, clock=Clock())
    assert curve.channels == (4, 8, 12)
    assert curve.seconds == (1.0, 1.0, 1.0)


def test_compiling_measures_each_step() -> None:
    model = build(throughput.BuiltinModel(name="resnet8"), num_classes=10, in_channels=3)
    found = compiling.measure_compiling(model, 16, repeats=2, clock=Clock())
    assert found.groups == 6
    assert found.discover == found.trace == found.million == (1.0, 1.0)
    assert len(found.slice) == 20


def test_empty_trials_are_counted_by_stretches() -> None:
    session = CountingSession(200)
    SerialExecutor(EmptyEvaluator, 10.0).run(session)
    assert session.done
    session.told_at = [10.0 + 0.5 * number for number in range(200)]
    assert session.seconds_each(parts=4) == [0.5] * 4
    session.stop("enough")
    assert session.ask() is None


def test_the_big_store_is_read_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "big.db"
    counted: list[int] = []
    big_store.build(path, 1200, counted.append)
    url = f"sqlite:///{path}"
    found = queries.trials(big_store.NAME, store=url)
    assert len(found) == sum(counted) == 1200
    assert {trial.state for trial in found} == {TrialState.COMPLETE, TrialState.STOPPED}
    assert all(trial.candidate.digest and len(trial.candidate.widths) == 12 for trial in found)
    for call in big_store.user_queries(url).values():
        call()


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(ConfigError, match="no section 'query'") as caught:
        suite.run(Silent(), only=["query"], effort=TINY)
    assert "queries" in caught.value.hint


def test_sections_measure_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOPRUNE_STORE", f"sqlite:///{tmp_path / 'mine.db'}")
    threads = torch.get_num_threads()
    report = suite.run(Silent(), only=["queries", "channels", "start-up"], effort=TINY)
    assert [row.section for row in report.rows] == ["channels", "start-up", "start-up", "queries", "queries"]
    assert all(row.median > 0 for row in report.rows)
    assert report.curve is not None
    assert report.facts["load average"]
    assert not list(tmp_path.iterdir())
    assert torch.get_num_threads() == threads
