"""A module in hand and a function of one's own: the whole way from search to the pruned module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autoprune
from autoprune.errors import ConfigError, Conflict, NothingFeasible, SearchAborted
from autoprune.types import SearchState, TrialState

SHAPE = (1, 3, 16, 16)
TARGET = torch.randn(4, 2, 16, 16, generator=torch.Generator().manual_seed(3))
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def segmenter() -> nn.Module:
    """No classifier: two maps of the size of the image."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 2, 1),
    )


def score(module: nn.Module) -> float:
    """Higher for smaller outputs; needs the spatial output of a segmenter."""
    with torch.no_grad():
        return -float((module(IMAGES) - TARGET).square().mean())


def search(metric: Callable[[nn.Module], Any] = score, **changes: Any) -> autoprune.api.ModuleSearchResult:
    settings: dict[str, Any] = {
        "name": "maps",
        "trials": 8,
        "controller": {"kind": "random"},
        "rules": [{"multiple": 2, "floor": 0.25}],
        **changes,
    }
    return autoprune.search_module(segmenter(), torch.zeros(SHAPE), metric=metric, **settings)


def test_from_search_to_the_pruned_module(workplace: Path) -> None:
    model = segmenter()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = autoprune.search_module(
        model,
        torch.zeros(SHAPE),
        metric=score,
        name="maps",
        trials=8,
        calibration=[IMAGES],
        constraints=["macs <= 0.8 * baseline"],
        controller={"kind": "random"},
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert result.trials == 8
    assert result.record.state is SearchState.COMPLETE
    assert (result.front.x.metric, result.front.y.metric) == ("macs", "metric")
    report = (workplace / "results/maps/report.html").read_text()
    assert "what the function <code>score</code> returned" in report
    assert "search_module(..., name=&#39;maps&#39;)" in report
    assert "search-val" not in report
    assert result.record.baseline["metric"] == pytest.approx(score(model.eval()))

    choice = autoprune.select("maps", where=["params <= 0.9 * baseline"])
    assert choice.trial.metrics["metric"] == max(
        trial.metrics["metric"]
        for trial in autoprune.trials("maps", states=["complete"])
        if trial.metrics["params"] <= 0.9 * choice.baseline["params"]
    )
    small = result.build(choice.trial)
    assert score(small) == pytest.approx(choice.trial.metrics["metric"], rel=1e-6)  # what was measured is what is built
    widths = choice.trial.candidate.widths
    assert small(IMAGES).shape == (4, 2, 16, 16)
    assert (small[0].out_channels, small[3].out_channels) == (widths["0"], widths["3"])
    assert sum(p.numel() for p in small.parameters()) == choice.trial.metrics["params"]

    later = segmenter()
    nn.init.normal_(later[0].weight)
    assert not torch.equal(result.build(choice.trial.number, later)[0].weight, small[0].weight)
    with pytest.raises(ConfigError, match="not of the searched architecture"):
        result.build(choice.trial, nn.Conv2d(3, 4, 3))


def test_the_same_call_goes_on_and_then_finds_it_done(workplace: Path) -> None:
    calls = 0

    def counted(module: nn.Module) -> float:
        nonlocal calls
        calls += 1
        return score(module)

    first = search(counted, trials=4, version="1")
    assert calls == 5  # with the baseline
    more = search(counted, trials=7, version="1")
    assert (more.trials, calls) == (7, 8)
    assert [t.candidate.digest for t in autoprune.trials("maps")][:4] == [
        t.candidate.digest for t in sorted(autoprune.trials("maps"), key=lambda t: t.number)[:4]
    ]
    again = search(counted, trials=7, version="1")
    assert again.reused
    assert calls == 8
    assert not first.reused
    with pytest.raises(ConfigError, match="on a module in hand"):
        autoprune.resume("maps", trials=20)
    with pytest.raises(ConfigError, match="on a module in hand"):
        autoprune.export("maps", 0, "out")


def test_another_function_model_or_setting_is_another_search(workplace: Path) -> None:
    search()
    with pytest.raises(Conflict, match=r"space\.data"):
        search(lambda module: 0.5)
    with pytest.raises(Conflict, match=r"space\.data\.calibration"):
        search(calibration=[IMAGES])
    with pytest.raises(Conflict, match=r"space\.model\.digest"):
        autoprune.search_module(
            nn.Sequential(*segmenter(), nn.ReLU()),
            torch.zeros(SHAPE),
            metric=score,
            name="maps",
            trials=8,
            controller={"kind": "random"},
            rules=[{"multiple": 2, "floor": 0.25}],
        )


def test_measurements_are_shared_only_where_the_version_says_that_it_is_the_same(workplace: Path) -> None:
    def duplicates(name: str, **changes: Any) -> int:
        search(name=name, trials=3, **changes)
        return sum(bool(trial.duplicate_of) for trial in autoprune.trials(name))

    assert duplicates("one") == duplicates("two") == 0
    assert duplicates("three", version="a") == 0
    assert duplicates("four", version="a") == 3
    assert duplicates("five", version="b") == 0


def test_a_mapping_names_the_metrics(workplace: Path) -> None:
    def both(module: nn.Module) -> dict[str, Any]:
        with torch.no_grad():
            error = (module(IMAGES) - TARGET).square().mean()
        return {"error": error, "peak": (module(IMAGES)).max()}

    result = search(both, objectives=["error min", "params min"], constraints=["peak <= 100"])
    assert (str(result.front.x), str(result.front.y)) == ("params min", "error min")
    assert str(autoprune.front("maps").y) == "error min"
    best = min(trial.metrics["error"] for trial in autoprune.trials("maps"))
    assert autoprune.select("maps").trial.metrics["error"] == best
    assert {"error", "peak", "macs", "params"} <= set(result.record.baseline)


def test_failures_are_trials_with_reasons(workplace: Path) -> None:
    calls = 0

    def shaky(module: nn.Module) -> float:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("no box was found")
        return float("nan") if calls == 5 else score(module)

    search(shaky, limits={"retries": 0})
    states = {trial.number: (trial.state, trial.reason) for trial in autoprune.trials("maps")}
    assert states[1][0] is TrialState.FAILED
    assert "RuntimeError: no box was found" in states[1][1]
    assert states[3] == (TrialState.DIVERGED, "metric is nan")
    assert sum(state is TrialState.COMPLETE for state, _ in states.values()) == 6


def test_mistakes_are_said_before_any_trial(workplace: Path) -> None:
    def broken(module: nn.Module) -> float:
        raise ValueError("wrong loader")

    cases: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (ConfigError, "fails on the unpruned module: ValueError: wrong loader", lambda: search(broken)),
        (ConfigError, "returned a str for 'metric', expected a number", lambda: search(lambda module: "good")),
        (ConfigError, "returned macs, which autoprune computes", lambda: search(lambda module: {"macs": 1.0})),
        (ConfigError, "name 'metric', which is not measured", lambda: search(lambda module: {"miou": 1.0})),
        (SearchAborted, "gives metric = nan", lambda: search(lambda module: float("nan"))),
        (ConfigError, r"calibration\[0\] is list, expected", lambda: search(calibration=[[IMAGES, 1]])),
        (ConfigError, r"does not run on calibration\[0\] \(4x2x16x16\)", lambda: search(calibration=[TARGET])),
        (ConfigError, "objectives", lambda: search(objectives=["metric up"])),
        (NothingFeasible, "macs", lambda: search(constraints=["macs <= 10"])),
    ]
    for kind, message, call in cases:
        with pytest.raises(kind, match=message):
            call()
    with pytest.raises(ConfigError, match="model is a str"):
        autoprune.search_module("net", torch.zeros(SHAPE), metric=score, name="x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"does not run on example_input \(1x5x16x16\)"):
        autoprune.search_module(segmenter(), torch.zeros(1, 5, 16, 16), metric=score, name="x")


def test_batchnorm_is_calibrated_on_the_given_batches(workplace: Path) -> None:
    result = search(calibration=(batch for batch in [IMAGES * 3 + 1]))  # a generator is read once and kept
    small = result.build(min(autoprune.trials("maps"), key=lambda trial: trial.metrics["macs"]))
    seen: list[Tensor] = []
    small[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    small(IMAGES * 3 + 1)
    torch.testing.assert_close(small[1].running_mean, seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.timeout(120)
def test_it_runs_in_ray_where_the_function_can_be_pickled(workplace: Path) -> None:
    import threading

    images, offset = IMAGES, 0.25  # a closure travels too; names of this file would not, Ray's workers lack it

    def shifted(module: nn.Module) -> float:
        with torch.no_grad():
            return offset - float(module(images).square().mean())

    lock = threading.Lock()

    def locked(module: nn.Module) -> float:
        with lock:
            return shifted(module)

    executor = {"kind": "ray", "max_parallel": 1}
    with pytest.raises(ConfigError, match="metric cannot be sent to Ray's workers"):
        search(locked, name="locked", executor=executor)
    result = search(shifted, trials=4, executor=executor)
    assert result.trials == 4
    best = max(result.front.trials, key=lambda trial: trial.metrics["metric"])
    assert shifted(result.build(best)) == pytest.approx(best.metrics["metric"], rel=1e-5)


def test_latency_of_a_module_is_an_objective_and_a_budget(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.driver.assemble_latency.cache_dir", lambda *parts: workplace / "kept")
    measure = {"measure": {"clock": "cpu", "levels": 2, "rounds": 1}}
    objectives = ["metric max", "latency_ms min"]
    bound = ["latency_ms <= 1.2 * baseline"]  # loose: of so small a network no width is surely faster
    result = search(trials=4, objectives=objectives, constraints=bound, latency=measure)
    baseline = result.record.baseline["latency_ms"]
    assert all(0 < trial.metrics["latency_ms"] <= 1.2 * baseline for trial in autoprune.trials("maps"))

    (kept,) = (workplace / "kept").glob("*.json")  # such a table can be given as a file, too
    other = search(name="other", trials=2, objectives=objectives, latency=kept)
    assert other.record.baseline["latency_ms"] == baseline
    with pytest.raises(ConfigError, match="nothing provides it"):
        search(name="third", objectives=objectives)


def test_latency_of_a_module_of_two_inputs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.driver.assemble_latency.cache_dir", lambda *parts: workplace / "kept")

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(6, 12), nn.Linear(5, 12), nn.Linear(12, 2)

        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return self.head(torch.relu(self.left(one) + self.right(other)))

    result = autoprune.search_module(
        Pair(),
        (torch.zeros(1, 6), torch.zeros(1, 5)),
        metric=lambda module: float(module(torch.ones(2, 6), torch.ones(2, 5)).detach().sum()),
        name="pair",
        trials=2,
        objectives=["metric max", "latency_ms min"],
        controller={"kind": "random"},
        latency={"measure": {"clock": "cpu", "levels": 2, "rounds": 1}},
    )
    assert result.record.baseline["latency_ms"] > 0
