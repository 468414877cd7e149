"""Successive halving: the rule beside Ray's own scheduler, what is compared at a rung, searches that are halved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler
from toy_search import OBJECTIVES, ToyController, history, open_session, top1_of

from autoprune.analysis.pareto import pareto_front
from autoprune.config.loading import load_search
from autoprune.driver.halving import Halving, epoch_metric, rewards
from autoprune.driver.racing import Racing
from autoprune.driver.running import _stopper
from autoprune.executors import SerialExecutor
from autoprune.executors.ray_asha import AshaRule
from autoprune.store import Store, open_store
from autoprune.types import Candidate, Measurement, Objective, Outcome, OutcomeKind, Trial, TrialState

EPOCHS, IMAGES = 9, 400
TOP1 = (Objective("top1", "max"),)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        yield store


def halving(objectives: Any = OBJECTIVES, *, epochs: int = EPOCHS, grace: int = 1, reduction: float = 3.0) -> Halving:
    return Halving(objectives, AshaRule(epochs, grace, reduction), epochs, IMAGES)


def after(epoch: int, top1: float, **metrics: float) -> Measurement:
    return Measurement({"top1": top1, "loss": 1.0, **metrics}, epoch, 0.0, False)


# --- the rule --------------------------------------------------------------------------------------------------------


def decisions_of_ray(sequence: list[tuple[int, int, float]], epochs: int, grace: int, reduction: float) -> list[bool]:
    """Whether each trial goes on after each report, by Tune's scheduler with a Tune trial for every candidate."""
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch", metric="top1", mode="max", max_t=epochs, grace_period=grace, reduction_factor=reduction
    )
    tune_controller: Any = None
    trials: dict[int, Any] = {}
    found = []
    for number, epoch, top1 in sequence:
        if number not in trials:
            trials[number] = SimpleNamespace(trial_id=f"trial-{number}")
            scheduler.on_trial_add(tune_controller, trials[number])
        action = scheduler.on_trial_result(tune_controller, trials[number], {"epoch": epoch, "top1": top1})
        found.append(action == scheduler.CONTINUE)
    return found


@pytest.mark.parametrize(("epochs", "grace", "reduction"), [(9, 1, 3.0), (10, 2, 2.0), (16, 1, 4.0), (12, 1, 2.5)])
def test_one_objective_is_halved_as_rays_own_scheduler_halves_it(epochs: int, grace: int, reduction: float) -> None:
    """Trials of four workers at once; ours is asked about each of them by what it knows, without Tune trials."""
    rng = np.random.default_rng(epochs)
    halved = halving(TOP1, epochs=epochs, grace=grace, reduction=reduction)
    running: dict[int, int] = {}
    sequence: list[tuple[int, int, float]] = []
    decided: list[bool] = []
    started = 0
    while len(decided) < 400:
        while len(running) < 4:
            halved.begin(started, {"macs": 1.0})
            running[started], started = 0, started + 1
        number = int(rng.choice(list(running)))
        running[number] += 1
        top1 = float(rng.random()) if rng.random() > 0.2 else 0.5  # ties, too
        sequence.append((number, running[number], top1))
        goes_on = running[number] < epochs and halved.goes_on(number, after(running[number], top1), [])
        decided.append(goes_on)
        if not goes_on:
            tops = {epoch_metric(epoch): value for one, epoch, value in sequence if one == number}
            halved.end(Trial(number, Candidate({"a": number + 1}), TrialState.COMPLETE, tops))
            del running[number]
    assert decided == decisions_of_ray(sequence, epochs, grace, reduction)
    assert 0.1 < decided.count(False) / len(decided) < 0.9


def test_rungs_are_rays_milestones_before_the_last_epoch() -> None:
    assert AshaRule(9, 1, 3.0).rungs == (1, 3)
    assert AshaRule(10, 1, 3.0).rungs == (1, 3, 9)
    assert AshaRule(4, 2, 1.5).rungs == (2, 3)
    assert AshaRule(1, 1, 3.0).rungs == ()


# --- what is compared ------------------------------------------------------------------------------------------------


def test_nobody_on_the_rungs_own_front_is_below_zero() -> None:
    rng = np.random.default_rng(0)
    top1, costs = rng.random(50), rng.integers(1, 20, (50, 2)).astype(float)
    found = rewards(top1, costs, IMAGES)
    for i in range(50):
        beaten = ((costs <= costs[i]).all(axis=1) & (top1 > top1[i])).any()
        assert (found[i] < 0) == beaten
    assert found.max() == 0


def test_a_point_counts_more_where_there_are_fewer_errors() -> None:
    costs = np.array([[1.0], [2.0]])
    near, far = (rewards(np.array([best, best - 0.02]), costs, IMAGES)[1] for best in (0.99, 0.62))
    assert near < 5 * far < 0
    assert np.isfinite(rewards(np.array([1.0, 0.0]), costs, IMAGES)).all()


def test_without_costs_the_reward_is_top1() -> None:
    top1 = np.array([0.3, 0.9])
    assert rewards(top1, np.empty((2, 0)), IMAGES) is top1


def fill(halved: Halving, *measured: tuple[float, float]) -> None:
    """Trials that ended with (top1 after one epoch, macs)."""
    for number, (top1, macs) in enumerate(measured):
        metrics = {"top1": 0.99, "macs": macs, epoch_metric(1): top1}
        halved.end(Trial(number, Candidate({"a": number + 1}), TrialState.COMPLETE, metrics))


def test_small_networks_are_not_measured_by_large_ones() -> None:
    for macs, top1, goes_on in ((5.0, 0.3, True), (10.0, 0.59, False), (10.0, 0.61, True), (300.0, 0.93, False)):
        halved = halving()
        fill(halved, (0.6, 10.0), (0.7, 20.0), (0.9, 100.0), (0.95, 200.0))
        halved.begin(9, {"macs": macs})
        assert halved.goes_on(9, after(1, top1), ()) is goes_on, (macs, top1)


def test_only_rungs_decide_and_each_of_them_once() -> None:
    halved = halving(TOP1)
    fill(halved, (0.9, 1.0), (0.9, 1.0))
    halved.begin(7, {"macs": 1.0})
    assert halved.goes_on(7, after(2, 0.0), ())
    assert halved.goes_on(7, after(1, math.nan), ()), "the judge's"
    assert halved.goes_on(7, Measurement({}, 1, 0.0, False), ())
    assert halved.goes_on(7, after(1, 0.9), ())
    assert halved.goes_on(7, after(1, 0.1), ()), "decided before"


def test_a_stop_is_explained_and_a_new_attempt_starts_afresh() -> None:
    halved = halving()
    fill(halved, (0.6, 10.0), (0.9, 100.0), (0.95, 200.0))
    halved.begin(7, {"macs": 150.0})
    assert not halved.goes_on(7, after(1, 0.5), ())
    stopped = Outcome(OutcomeKind.STOPPED, {"top1": 0.5}, "stopped early", {"train": 1.0}, "w")
    marked = halved.marked(7, stopped)
    assert marked.metrics == {"top1": 0.5, "epochs": 1.0}
    assert (marked.timings, marked.worker) == ({"train": 1.0}, "w")
    assert marked.reason == (
        "ASHA: estimate after 1 of 9 epochs: top1 is 50.00 %, 40.00 points below the best of 3 others at no worse "
        "macs; about one in 3 goes on"
    )
    halved.begin(7, {"macs": 150.0})
    assert halved.marked(7, stopped) is stopped
    assert halved.goes_on(7, after(1, 0.94), ())


def test_looked_up_trials_count_once_and_accidents_not_at_all() -> None:
    once, twice = halving(TOP1), halving(TOP1)
    metrics = {"top1": 0.9, epoch_metric(1): 0.5}
    for halved in (once, twice):
        fill(halved, (0.7, 1.0))
        halved.end(Trial(5, Candidate({"a": 50}), TrialState.COMPLETE, metrics))
        halved.end(Trial(6, Candidate({"a": 51}), TrialState.FAILED, {"macs": 1.0}))
    for number in range(7, 12):
        twice.end(Trial(number, Candidate({"a": 50}), TrialState.COMPLETE, metrics, duplicate_of="toy/5"))
    for top1 in (0.6, 0.65):  # the mark is at two thirds of the way from 0.5 to 0.7
        for halved in (once, twice):
            halved.begin(20, {"macs": 1.0})
            assert halved.goes_on(20, after(1, top1), ()) is (top1 > 0.5 + 0.2 * 2 / 3)


# --- searches --------------------------------------------------------------------------------------------------------


class Learner:
    """Nine epochs that come near ``top1_of``, with a ripple of each candidate's own."""

    def __init__(self) -> None:
        self.epochs = 0

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        rng = np.random.default_rng(int(candidate.digest, 16))
        known: dict[str, float] = {}
        for epoch in range(1, EPOCHS + 1):
            self.epochs += 1
            behind = 0.2 * (1 - epoch / EPOCHS)
            top1 = top1_of(candidate) * (1 - behind - 0.3 * behind * float(rng.random()))
            final = epoch == EPOCHS
            known |= {} if final else {epoch_metric(epoch): top1}
            yield Measurement({**known, "top1": top1}, epoch, 0.0, final, {"train": 0.1})


class Deaf(ToyController):
    """Learns nothing, so that it proposes the same whatever is stopped."""

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)


def run(store: Store, name: str, controller: ToyController, *, halved: bool, trials: int = 60) -> Learner:
    learner = Learner()
    with open_session(
        store, controller, name=name, trials=trials, evaluation_digest=name, stopper=halving() if halved else None
    ) as session:
        assert session.wants_estimates is halved
        SerialExecutor(lambda: learner, 10).run(session)
    return learner


def test_halving_keeps_the_front_and_trains_half_as_long(store: Store) -> None:
    full = run(store, "full", Deaf(), halved=False)
    fast = run(store, "fast", Deaf(), halved=True)
    assert fast.epochs < 0.7 * full.epochs
    fronts = [{trial.number for trial in pareto_front(store.trials(name), OBJECTIVES)} for name in ("full", "fast")]
    assert len(fronts[0] & fronts[1]) >= 0.8 * len(fronts[0])
    stopped = [trial for trial in store.trials("fast") if trial.state is TrialState.STOPPED]
    for trial in stopped:
        assert trial.metrics["epochs"] in (1, 3)
        assert trial.metrics["top1"] == trial.metrics[epoch_metric(int(trial.metrics["epochs"]))]
        assert trial.reason.startswith(f"ASHA: estimate after {trial.metrics['epochs']:.0f} of 9 epochs")
    assert len({trial.metrics["epochs"] for trial in stopped}) == 2
    assert not {trial.number for trial in stopped} & fronts[1]


@pytest.mark.parametrize("cut", [1, 7, 23, 38])
def test_a_resumed_search_stops_what_the_uncut_one_does(store: Store, cut: int) -> None:
    """The toy controller's proposals depend on every estimate that it was told."""
    run(store, "uncut", ToyController(), halved=True, trials=40)
    run(store, "cut", ToyController(), halved=True, trials=cut)
    with open_session(
        store, ToyController(), name="cut", evaluation_digest="cut", trials=40, stopper=halving()
    ) as dying:
        trial = dying.ask()
        assert trial is not None
        dying.report(trial.number, after(1, 0.999))  # killed between two epochs: only this trial is lost
    run(store, "cut", ToyController(), halved=True, trials=40)
    assert history(store, "cut") == history(store, "uncut")
    whole, parts = ({t.number: (t.reason, t.metrics) for t in store.trials(name)} for name in ("uncut", "cut"))
    assert whole == parts
    assert store.search("cut").trial_counts["stopped"] > 5


# --- composition -----------------------------------------------------------------------------------------------------


def stopper_of(settings: Mapping[str, Any]) -> Any:
    space = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}
    prepared: Any = SimpleNamespace(
        config=load_search({"name": "demo", "space": space, **settings}),
        assets=SimpleNamespace(labels=np.arange(400) % 10),
        dataset=SimpleNamespace(search_val=range(400)),
    )
    return _stopper(prepared)


def test_a_run_is_stopped_by_images_or_by_epochs_or_not_at_all() -> None:
    assert stopper_of({}) is None
    assert isinstance(stopper_of({"racing": {}}), Racing)
    assert isinstance(stopper_of({"fidelity": "finetune"}), Halving)
    assert stopper_of({"fidelity": {"asha": False}}) is None
    assert stopper_of({"fidelity": {"epochs": 1}}) is None
