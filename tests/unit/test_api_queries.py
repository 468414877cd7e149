"""Fronts and selections of a stored search against their definitions over all of its trials."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoprune import api
from autoprune.analysis import plots
from autoprune.analysis.front import build_front
from autoprune.analysis.metrics import axis
from autoprune.analysis.pareto import comparable, hypervolume
from autoprune.analysis.plots import plot_front
from autoprune.analysis.selection import select
from autoprune.api import reporting
from autoprune.config.expressions import parse_constraint
from autoprune.errors import AutopruneError, NotFound
from autoprune.store import new_owner, open_store, packs
from autoprune.testing.pack_contract import drive
from autoprune.testing.store_contract import create, finished, started
from autoprune.types import Constraint, Objective, Trial, TrialState

BASELINE = {"top1": 0.5, "macs": 8.0, "latency_ms": math.nan}
BUDGETS = [
    [],
    ["macs <= 0.5 * baseline"],
    ["macs <= 5", "top1 >= 0.25"],
    ["top1 >= 0.5 * baseline", "macs >= 3"],
    ["latency_ms <= 0.5", "macs <= 6"],
    ["macs <= 0.5", "top1 >= 0.9"],  # nothing
    ["latency_ms <= 0.1", "macs <= 0"],  # nothing, and a bound of zero
]


@pytest.fixture(scope="module", params=range(4))
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Trial]]:
    """A search with ties, equal points, metrics that are missing or not finite and all states, and its trials."""
    url = f"sqlite:///{tmp_path_factory.mktemp('stored')}/a.db"
    with pytest.MonkeyPatch.context() as patched, open_store(url) as store:
        patched.setattr(packs, "SIZE", 8)
        create(store, baseline=BASELINE)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        drive(store, lease, np.random.default_rng(request.param), range(70))
        assert store.pack_starts("one")
        return url, store.trials("one")


def constraints(where: list[str]) -> list[Constraint]:
    return [each for text in where for each in parse_constraint(text)]


def missed(trial: Trial, where: list[str]) -> float:
    return sum(each.miss(trial.metrics, BASELINE) for each in constraints(where))


def finite(trial: Trial, *names: str) -> bool:
    return all(math.isfinite(trial.metrics.get(name, math.nan)) for name in names)


def brute_front(trials: list[Trial], x: str, y: str, where: list[str]) -> tuple[list[int], int]:
    axes = (axis(x), axis(y))
    allowed = {
        trial.number: tuple(each.sign * trial.metrics[each.metric] for each in axes)
        for trial in trials
        if trial.state is TrialState.COMPLETE and finite(trial, *(a.metric for a in axes)) and not missed(trial, where)
    }
    kept = [
        number
        for number, point in allowed.items()
        if not any(
            other[0] <= point[0] and other[1] <= point[1] and (other != point or rival < number)
            for rival, other in allowed.items()
        )
    ]
    cost = 0 if axes[0].direction == "min" or axes[1].direction == "max" else 1
    return sorted(kept, key=lambda number: allowed[number][cost]), len(allowed)


@pytest.mark.parametrize("where", BUDGETS, ids=str)
@pytest.mark.parametrize(("x", "y"), [("macs", "top1"), ("top1", "macs"), ("latency_ms", "top1"), ("macs max", "top1")])
def test_a_front_is_that_of_all_trials(stored: tuple[str, list[Trial]], x: str, y: str, where: list[str]) -> None:
    url, trials = stored
    found = api.front("one", x=x, y=y, where=where, store=url)
    assert ([trial.number for trial in found.trials], found.considered) == brute_front(trials, x, y, where)
    by_number = {trial.number: trial for trial in trials}
    assert repr(found.trials) == repr(tuple(by_number[trial.number] for trial in found.trials))
    listed = build_front("one", trials[::-1], baseline=BASELINE, x=x, y=y, constraints=constraints(where))
    assert repr(found) == repr(listed)


@pytest.mark.parametrize("where", BUDGETS, ids=str)
@pytest.mark.parametrize("objective", ["top1 max", "macs min", "latency_ms max"])
def test_a_selection_is_that_of_all_trials(stored: tuple[str, list[Trial]], objective: str, where: list[str]) -> None:
    url, trials = stored
    goal = axis(objective)
    named = {"maximize": goal.metric} if goal.direction == "max" else {"minimize": goal.metric}
    ranked = [trial for trial in trials if trial.state is TrialState.COMPLETE and finite(trial, goal.metric)]

    def order(trial: Trial) -> tuple[float, float, float, int]:
        macs = trial.metrics["macs"] if finite(trial, "macs") else math.inf
        return missed(trial, where), goal.sign * trial.metrics[goal.metric], macs, trial.number

    best = min(ranked, key=order)
    if not missed(best, where):
        found = api.select("one", where=where, store=url, **named)
        assert repr(found.trial) == repr(best)
        assert found.considered == sum(trial.state is TrialState.COMPLETE for trial in trials)
        assert select(trials[::-1], constraints(where), BASELINE, goal).number == best.number
        return
    said = same_refusal(
        lambda: api.select("one", where=where, store=url, **named),
        lambda: select(trials, constraints(where), BASELINE, goal),
    )
    assert f"none of {len(ranked)} complete trials meets" in said
    assert f"Nearest: trial {best.number} misses" in said


def same_refusal(stored: Callable[[], object], listed: Callable[[], object]) -> str:
    said = []
    for call in (stored, listed):
        with pytest.raises(AutopruneError) as caught:
            call()
        said.append((type(caught.value), caught.value.message, caught.value.hint))
    assert said[0] == said[1]
    return said[0][1]


@pytest.mark.parametrize(
    ("x", "where", "match"),
    [
        ("mac", [], "metric 'mac' is not measured"),
        ("top1", [], "both axes are 'top1'"),
        ("macs upwards", [], "is not understood"),
        ("macs", ["laten_ms <= 1", "never <= 2"], "metric 'laten_ms' is not measured"),
        ("macs", ["latency_ms <= 0.5 * baseline"], "baseline, which has no 'latency_ms'"),
        ("macs", ["test_top1 <= 0.5 * baseline"], "baseline, which has no 'test_top1'"),
    ],
)
def test_refusals_are_those_over_all_trials(
    stored: tuple[str, list[Trial]], x: str, where: list[str], match: str
) -> None:
    url, trials = stored
    bounds = constraints(where)
    said = same_refusal(
        lambda: api.front("one", x=x, where=where, store=url),
        lambda: build_front("one", trials, baseline=BASELINE, x=x, constraints=bounds),
    )
    assert match in said
    if where and not where[0].startswith("test_"):
        said = same_refusal(
            lambda: api.select("one", where=where, store=url),
            lambda: select(trials, bounds, BASELINE, Objective("top1", "max")),
        )
        assert match in said


def test_a_metric_that_is_measured_but_never_a_number_is_known(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        store.start_trial(lease, started(0))
        store.finish_trial(lease, finished(started(0), top1=0.5, macs=math.nan), {})
        store.start_trial(lease, started(1))
        store.finish_trial(lease, finished(started(1), TrialState.STOPPED, top1=0.5, energy=1.0), {})
        trials = store.trials("one")
    found = api.front("one", store=url)
    assert (found.trials, found.considered) == ((), 0)
    assert api.select("one", store=url).trial.number == 0
    same_refusal(
        lambda: api.select("one", minimize="macs", store=url),
        lambda: select(trials, [], {}, Objective("macs", "min")),
    )
    same_refusal(
        lambda: api.front("one", x="energy", store=url),
        lambda: build_front("one", trials, baseline={}, x="energy"),
    )


def test_a_search_without_complete_trials(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        create(store)
    found = api.front("one", where=["latency_ms <= 0.5 * baseline"], store=url)
    assert (found.trials, found.considered, found.baseline) == ((), 0, {"macs": 100.0})
    same_refusal(lambda: api.select("one", store=url), lambda: select([], [], {}, Objective("top1", "max")))
    history = api.history("one", store=url)
    assert (len(history.numbers), history.rows(), history.box) == (0, [], 0.0)
    assert api.report("one", store=url, out=tmp_path / "r").joinpath("report.html").exists()
    with pytest.raises(NotFound, match="no search named 'two'"):
        api.front("two", x="top1", store=url)


def test_the_history_is_the_hypervolume_of_every_prefix(stored: tuple[str, list[Trial]]) -> None:
    url, trials = stored
    found = api.history("one", x="macs", y="top1", store=url)
    usable = [trial for trial in trials if trial.state is TrialState.COMPLETE and finite(trial, "macs", "top1")]
    points = np.array([[trial.metrics["macs"], -trial.metrics["top1"]] for trial in usable])
    worst, best = points.max(axis=0), points.min(axis=0)
    corner = worst + 0.1 * (worst - best)
    assert found.reference == pytest.approx(corner * [1, -1])
    for number, volume in zip(found.numbers.tolist(), found.volumes, strict=True):
        prefix = points[[i for i, trial in enumerate(usable) if trial.number <= number]]
        assert volume == pytest.approx(hypervolume(prefix, corner), rel=1e-12)
    assert {trial.number for trial in usable} <= set(found.numbers.tolist())
    assert found.shares == pytest.approx(found.volumes / (corner - best).prod())


def test_the_rows_of_a_history_are_its_moves(stored: tuple[str, list[Trial]]) -> None:
    found = api.history("one", x="macs", y="top1", store=stored[0])
    rows = found.rows()
    grown = {number for number, gain in zip(found.numbers, np.diff(found.volumes, prepend=0.0), strict=True) if gain}
    assert [row["trial"] for row in rows] == sorted({*grown, found.numbers[-1]})
    at = np.searchsorted([row["trial"] for row in rows], found.numbers, side="right") - 1
    assert [rows[i]["hypervolume"] if i >= 0 else 0.0 for i in at] == found.volumes.tolist()
    assert found.to_csv().splitlines()[0] == "trial,hypervolume,share"
    content = json.loads(found.to_json())
    assert content["history"] == rows
    assert content["objectives"] == ["macs min", "top1 max"]


@pytest.mark.parametrize("stored", [0], indirect=True)
def test_a_plot_draws_the_same_trials_as_one_of_all(
    stored: tuple[str, list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, trials = stored
    front = api.front("one", x="macs", y="top1", store=url)
    drawn = [
        path.read_bytes()
        for path in (
            api.plot(front, tmp_path / "a.svg", store=url),
            plot_front(front, tmp_path / "b.svg", trials=trials),
        )
    ]
    assert drawn[0] == drawn[1]
    off = len(comparable(trials, (front.x, front.y))) - len(front.trials)
    monkeypatch.setattr(plots.thinned, "__defaults__", (4,))
    page = api.plot(front, tmp_path / "c.svg", store=url).read_text()
    shown = int(re.search(rf"(\d+) of {off} other trials", page)[1])  # type: ignore[index]
    uniform = sum(trial.note.get("origin") == "uniform" for trial in trials)
    assert shown <= 4 + uniform < off


@pytest.mark.parametrize("stored", [0], indirect=True)
def test_a_report_of_some_trials_counts_all(
    stored: tuple[str, list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = stored
    whole = api.report("one", store=url, out=tmp_path / "whole")
    monkeypatch.setattr(reporting, "MOST_OTHERS", 0)
    summed = api.report("one", store=url, out=tmp_path / "summed")
    for name in ("front.csv", "front.png", "report.html"):
        assert (summed / name).read_bytes() == (whole / name).read_bytes()
    monkeypatch.setattr(plots.thinned, "__defaults__", (6,))
    pages = [
        (api.report("one", store=url, out=tmp_path / "some") / "report.html").read_text(),
        (whole / "report.html").read_text(),
    ]
    counts = [re.search(r"<h2>Trials</h2>\s*<p>(.*?)</p>", page, re.DOTALL)[1] for page in pages]  # type: ignore[index]
    assert counts[0] == counts[1]
    tables = [re.search(r"<tbody>.*?</tbody>", page, re.DOTALL)[0] for page in pages]  # type: ignore[index]
    assert tables[0] == tables[1]
    assert "other trials" in pages[0]
