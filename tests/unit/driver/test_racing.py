"""Racing: the bound against enumeration, the rule, its false stops, and searches that race."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_search import CHANNELS, OBJECTIVES, ToyController, ToyEvaluator, history, open_session, top1_of

from autoprune.analysis.pareto import pareto_front
from autoprune.analysis.selection import select
from autoprune.config.loading import load_search
from autoprune.config.schema import RacingConfig
from autoprune.data.dataset import Split
from autoprune.driver.racing import Bound, Racing, make_racing
from autoprune.driver.running import _stopper
from autoprune.errors import ConfigError
from autoprune.executors import SerialExecutor
from autoprune.store import Store, open_store
from autoprune.types import Candidate, Measurement, Objective, Outcome, OutcomeKind, Trial, TrialState

IMAGES, SLICE = 400, 50
CLASSES = 10
LABELS = np.arange(IMAGES) % CLASSES


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        yield store


# --- the bound -------------------------------------------------------------------------------------------------------


def test_the_tail_is_that_of_the_hypergeometric_distribution() -> None:
    total = 9
    bound = Bound(total, 0.9)
    for seen, final in itertools.product(range(1, total + 1), range(total + 1)):
        for correct in range(max(0, seen - (total - final)), min(seen, final) + 1):
            ways = sum(math.comb(final, k) * math.comb(total - final, seen - k) for k in range(correct + 1))
            assert bound.tail(correct, seen, final) == pytest.approx(float(Fraction(ways, math.comb(total, seen))))


def test_the_tail_stays_accurate_over_many_images() -> None:
    total, seen, final, correct = 10_000, 2_500, 9_000, 2_190
    ways = sum(math.comb(final, k) * math.comb(total - final, seen - k) for k in range(correct + 1))
    expected = float(Fraction(ways, math.comb(total, seen)))
    assert 1e-8 < expected < 1e-2
    assert Bound(total, 0.99).tail(correct, seen, final) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("confidence", [0.6, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("looks", [(3, 6, 9), (2, 4, 5, 7, 8, 10, 11), (6,)])
def test_all_bounds_hold_at_once_with_the_confidence_stated(confidence: float, looks: Sequence[int]) -> None:
    """Over every order of 12 images, for every number of correct answers among them."""
    total = 12
    bound = Bound(total, confidence)
    pairs = zip((0, *looks), looks, strict=False)
    uppers = {seen: [bound.upper(correct, seen, last) for correct in range(seen + 1)] for last, seen in pairs}
    errors = []
    for final in range(total + 1):
        orders = list(itertools.combinations(range(total), final))
        errors.append(Fraction(sum(_too_low(uppers, order) for order in orders), len(orders)))
    assert max(errors) <= 1 - confidence + 1e-12
    assert confidence > 0.8 or max(errors) > 0, "a bound that is never wrong is no bound of this confidence"


def _too_low(uppers: dict[int, list[int]], correct_at: Sequence[int]) -> bool:
    """Some bound is below the final count, when the right answers are these places in the order."""
    return any(upper[sum(at < seen for at in correct_at)] < len(correct_at) for seen, upper in uppers.items())


def test_the_bound_is_the_largest_count_that_its_test_keeps() -> None:
    bound = Bound(60, 0.9)
    for seen, correct in ((10, 3), (30, 29), (59, 0), (59, 59), (25, 0)):
        level = 0.1 * (1 - (1 - seen / 60) ** 2)
        kept = [k for k in range(correct, correct + 60 - seen + 1) if bound.tail(correct, seen, k) > level]
        assert bound.upper(correct, seen, 0) == max(kept)


def test_nothing_is_left_to_chance_after_the_last_image() -> None:
    bound = Bound(60, 0.9)
    assert [bound.upper(correct, 60, 50) for correct in (0, 31, 60)] == [0, 31, 60]


# --- the rule --------------------------------------------------------------------------------------------------------


def racing(confidence: float = 0.99, min_images: int = SLICE, objectives: Sequence[Objective] = OBJECTIVES) -> Racing:
    return Racing(objectives, RacingConfig(confidence=confidence, min_images=min_images), IMAGES)


def on_front(number: int, top1: float, macs: float) -> Trial:
    return Trial(number, Candidate(CHANNELS), TrialState.COMPLETE, {"top1": top1, "macs": macs})


def after(seen: int, top1: float) -> Measurement:
    return Measurement({"top1": top1, "loss": 1.0}, seen, 0.0, False)


def test_only_rivals_that_cost_no_more_stop_a_trial() -> None:
    front = (on_front(0, 0.5, 100.0), on_front(1, 0.9, 300.0))
    for macs, goes_on in ((200.0, True), (299.0, True), (300.0, False), (400.0, False), (99.0, True)):
        race = racing()
        race.begin(7, {"macs": macs, "params": 1.0})
        assert race.goes_on(7, after(100, 0.6), front) is goes_on, macs


def test_every_cost_counts() -> None:
    objectives = (*OBJECTIVES, Objective("params", "min"))
    rival = Trial(0, Candidate(CHANNELS), TrialState.COMPLETE, {"top1": 0.9, "macs": 1.0, "params": 9.0})
    for params, goes_on in ((8.0, True), (9.0, False)):
        race = racing(objectives=objectives)
        race.begin(1, {"macs": 2.0, "params": params})
        assert race.goes_on(1, after(100, 0.2), [rival]) is goes_on


def test_a_single_objective_races_the_incumbent() -> None:
    race = racing(objectives=[Objective("top1", "max")])
    race.begin(1, {"macs": 1.0})
    assert not race.goes_on(1, after(100, 0.2), [on_front(0, 0.9, 500.0)])


def test_the_first_trial_meets_no_front() -> None:
    race = racing()
    race.begin(0, {"macs": 1.0})
    assert race.goes_on(0, after(350, 0.0), [])


def test_a_trial_that_can_still_draw_level_goes_on() -> None:
    """350 of 400 seen, 50 wrong: at most 350 of 400 remain possible, to the image."""
    for rival, goes_on in ((350 / 400, True), (351 / 400, False)):
        race = racing(confidence=1 - 1e-12)
        race.begin(1, {"macs": 400.0})
        assert race.goes_on(1, after(350, 300 / 350), [on_front(0, rival, 300.0)]) is goes_on


def test_no_look_before_min_images_nor_at_a_number_that_is_none() -> None:
    race, front = racing(min_images=200), [on_front(0, 0.9, 1.0)]
    race.begin(1, {"macs": 2.0})
    assert race.goes_on(1, after(199, 0.0), front)
    assert race.goes_on(1, after(250, math.nan), front)
    assert race.goes_on(1, Measurement({}, 300, 0.0, False), front)
    assert not race.goes_on(1, after(350, 0.0), front)


def test_a_stop_is_explained_and_a_new_attempt_starts_afresh() -> None:
    race, front = racing(), [on_front(4, 0.9, 1.0)]
    race.begin(1, {"macs": 2.0})
    assert not race.goes_on(1, after(100, 0.25), front)
    marked = race.marked(1, Outcome(OutcomeKind.STOPPED, {"top1": 0.25}, "stopped early", {"slice": 1.0}, "w"))
    assert marked.metrics == {"top1": 0.25, "images": 100.0}
    assert (marked.timings, marked.worker) == ({"slice": 1.0}, "w")
    assert marked.reason.startswith("estimate from 100 of 400 images: with confidence 0.99 top1 stays within ")
    assert marked.reason.endswith(", below the 90.00 % of trial 4 at no worse macs")
    race.begin(1, {"macs": 2.0})
    assert race.goes_on(1, after(50, 0.9), front)
    assert race.marked(1, Outcome(OutcomeKind.STOPPED, {}, "by the executor")).reason == "by the executor"


def test_the_same_images_are_looked_at_once() -> None:
    race, front = racing(), [on_front(0, 0.9, 1.0)]
    race.begin(1, {"macs": 2.0})
    assert race.goes_on(1, after(100, 0.9), front)
    assert race.goes_on(1, after(100, 0.0), front)
    assert not race.goes_on(1, after(150, 0.0), front)


# --- false stops -----------------------------------------------------------------------------------------------------


def stopped_at(answers: np.ndarray, rival: float, confidence: float) -> int | None:
    """Images seen when a trial with these answers, in order, is stopped; None: it is measured to the end."""
    race = racing(confidence, min_images=2 * SLICE)
    race.begin(1, {"macs": 2.0})
    front = [on_front(0, rival, 1.0)]
    for seen in range(SLICE, IMAGES, SLICE):
        if not race.goes_on(1, after(seen, float(answers[:seen].mean())), front):
            return seen
    return None


def orders(count: int) -> list[np.ndarray]:
    """Class-balanced ones, as the evaluator's images come, and plain random ones."""
    split = Split(np.arange(IMAGES, dtype=np.int64)[:, None, None, None], LABELS)
    random = np.random.default_rng(0)
    balanced = [split.take(IMAGES, seed).images.ravel() for seed in range(count)]
    return balanced + [random.permutation(IMAGES) for _ in range(count)]


@pytest.mark.parametrize("top1", [0.5, 0.9])
def test_trials_that_would_reach_the_front_are_stopped_no_more_often_than_stated(top1: float) -> None:
    """The hardest case: a final top1 equal to the rival's, at a confidence low enough for errors to be counted."""
    answers = np.random.default_rng(1).permutation(IMAGES) < top1 * IMAGES
    each = 400
    stops = [stopped_at(answers[order], top1, 0.8) is not None for order in orders(each)]
    for name, rate in (("balanced", np.mean(stops[:each])), ("random", np.mean(stops[each:]))):
        assert rate <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / each), name
        assert rate > 0.01, f"{name}: a rule that never errs at confidence 0.8 stops too little"


def test_trials_far_below_the_front_are_stopped_early() -> None:
    answers = np.random.default_rng(1).permutation(IMAGES) < 0.5 * IMAGES
    stops = [stopped_at(answers[order], 0.9, 0.99) for order in orders(50)]
    assert all(stops)
    assert np.mean([stop or IMAGES for stop in stops]) < 0.3 * IMAGES


# --- searches that race ----------------------------------------------------------------------------------------------


def answers_of(candidate: Candidate) -> np.ndarray:
    """Which of the images, in the order in which they come, a candidate gets right: fixed by its widths."""
    random = np.random.default_rng(int(candidate.digest, 16))
    return random.permutation(IMAGES) < round(top1_of(candidate) * IMAGES)


class SlicedEvaluator(ToyEvaluator):
    """Reports after each slice, as the real one does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        self.ran.append(candidate)
        answers = answers_of(candidate)
        for seen in range(SLICE, IMAGES + 1, SLICE):
            self.seen += SLICE
            yield Measurement({"top1": float(answers[:seen].mean())}, seen, 0.0, seen == IMAGES, {"slice": 0.1})


class Deaf(ToyController):
    """Learns nothing, so that it proposes the same whatever is stopped."""

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)


def run(store: Store, name: str, controller: ToyController, *, raced: bool, trials: int = 60) -> SlicedEvaluator:
    evaluator = SlicedEvaluator()
    with open_session(
        store, controller, name=name, trials=trials, evaluation_digest=name, stopper=racing() if raced else None
    ) as session:
        SerialExecutor(lambda: evaluator, 10).run(session)
    return evaluator


def test_racing_finds_the_front_of_full_evaluation_with_fewer_images(store: Store) -> None:
    full = run(store, "full", Deaf(), raced=False)
    fast = run(store, "fast", Deaf(), raced=True)
    whole, raced = store.trials("full"), store.trials("fast")
    assert [trial.candidate for trial in whole] == [trial.candidate for trial in raced]
    fronts = [[trial.number for trial in pareto_front(trials, OBJECTIVES)] for trials in (whole, raced)]
    assert fronts[0] == fronts[1]
    stopped = [trial for trial in raced if trial.state is TrialState.STOPPED]
    assert len(stopped) > 20
    assert fast.seen < 0.75 * full.seen
    assert not {trial.number for trial in stopped} & set(fronts[0])


def test_a_stopped_trial_is_marked_and_never_on_a_front(store: Store) -> None:
    controller = Deaf()
    run(store, "fast", controller, raced=True)
    trials = store.trials("fast")
    stopped = [trial for trial in trials if trial.state is TrialState.STOPPED]
    for trial in stopped:
        images = int(trial.metrics["images"])
        assert SLICE <= images < IMAGES
        assert trial.metrics["top1"] == answers_of(trial.candidate)[:images].mean()
        assert trial.metrics["macs"] == 10 * sum(trial.candidate.widths.values())
        assert trial.reason.startswith(f"estimate from {images} of {IMAGES} images")
        assert trial.timings["slice"] == 0.1
    assert [trial.number for trial in controller.told] == list(range(60))
    assert "images" not in {name for trial in trials if trial.state is TrialState.COMPLETE for name in trial.metrics}
    # Even with an estimate better than anything measured, at no cost.
    best = Trial(99, Candidate(CHANNELS), TrialState.STOPPED, {"top1": 1.0, "macs": 0.0, "images": 50.0})
    assert pareto_front([*trials, best], OBJECTIVES) == pareto_front(trials, OBJECTIVES)
    assert select([*trials, best], [], {"top1": 0.9, "macs": 480.0}, OBJECTIVES[0]).state is TrialState.COMPLETE
    numbers, _ = store.columns("fast", ["top1", "macs"])
    assert not set(numbers.tolist()) & {trial.number for trial in stopped}


def test_an_estimate_is_never_looked_up_by_another_search(store: Store) -> None:
    run(store, "fast", Deaf(), raced=True)
    stopped = next(trial for trial in store.trials("fast") if trial.state is TrialState.STOPPED)
    controller = Deaf(script={0: stopped.candidate})
    with open_session(store, controller, name="other", trials=1, evaluation_digest="fast") as session:
        SerialExecutor(SlicedEvaluator, 10).run(session)
    trial = store.trial("other", 0)
    assert (trial.state, trial.duplicate_of) == (TrialState.COMPLETE, "")
    assert trial.metrics["top1"] == answers_of(stopped.candidate).mean()


@pytest.mark.parametrize("cut", [1, 7, 23, 38])
def test_a_resumed_search_stops_what_the_uncut_one_does(store: Store, cut: int) -> None:
    """The toy controller's proposals depend on every estimate that it was told."""
    run(store, "uncut", ToyController(), raced=True, trials=40)
    run(store, "cut", ToyController(), raced=True, trials=cut)
    with open_session(
        store, ToyController(), name="cut", evaluation_digest="cut", trials=40, stopper=racing()
    ) as dying:
        trial = dying.ask()
        assert trial is not None
        dying.report(trial.number, after(SLICE, 1.0))  # killed between two slices
    run(store, "cut", ToyController(), raced=True, trials=40)
    assert history(store, "cut") == history(store, "uncut")
    whole, parts = ({t.number: (t.reason, t.metrics) for t in store.trials(name)} for name in ("uncut", "cut"))
    assert whole == parts
    assert store.search("cut").trial_counts["stopped"] > 5


def test_a_retry_after_an_accident_races_again(store: Store) -> None:
    script = {0: Candidate(dict.fromkeys(CHANNELS, 1)), 1: Candidate(dict.fromkeys(CHANNELS, 16))}
    with open_session(store, Deaf(script=script), trials=2, stopper=racing(), retries=1) as session:
        first = session.ask()
        assert first is not None
        session.tell(first.number, Outcome(OutcomeKind.MEASURED, {"top1": 0.9}))
        second = session.ask()
        assert second is not None
        assert session.report(1, after(200, 0.9))
        session.tell(1, Outcome(OutcomeKind.ACCIDENT, reason="killed"))
        assert session.ask() is not None
        assert not session.report(1, after(100, 0.1)), "100 images are a look again"
        session.tell(1, Outcome(OutcomeKind.STOPPED, {"top1": 0.1}, "stopped early"))
    trial = store.trial("toy", 1)
    assert (trial.state, trial.attempt, trial.metrics["images"]) == (TrialState.STOPPED, 2, 100.0)


def test_the_twin_of_a_stopped_trial_is_stopped_too(store: Store) -> None:
    same = Candidate(dict.fromkeys(CHANNELS, 16))
    script = {0: Candidate(dict.fromkeys(CHANNELS, 1)), 1: same, 2: same}
    with open_session(store, Deaf(script=script), trials=3, stopper=racing()) as session:
        assert session.ask() is not None
        session.tell(0, Outcome(OutcomeKind.MEASURED, {"top1": 0.9}))
        assert session.ask() is not None
        assert session.ask() is None
        assert not session.report(1, after(100, 0.1))
        session.tell(1, Outcome(OutcomeKind.STOPPED, {"top1": 0.1}, "stopped early"))
        assert session.done
    twin = store.trial("toy", 2)
    assert (twin.state, twin.duplicate_of) == (TrialState.STOPPED, "toy/1")
    assert twin.metrics == store.trial("toy", 1).metrics


def test_estimates_are_wanted_only_for_racing(store: Store) -> None:
    with open_session(store, name="a", stopper=racing()) as session:
        assert session.wants_estimates
    with open_session(store, name="b") as session:
        assert not session.wants_estimates


# --- configuration ---------------------------------------------------------------------------------------------------

SEARCH: dict[str, Any] = {
    "name": "demo",
    "space": {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}},
}


def test_racing_is_off_by_default_and_part_of_the_digest_when_on() -> None:
    off = load_search(SEARCH)
    assert off.racing is None
    before = load_search(SEARCH, ["evaluator.weights.criterion=l1"])  # the default of that time
    assert before.digest() == "a48f4839bf1a1840", "searches stored before there was racing go on under their digest"
    on = load_search({**SEARCH, "racing": {}})
    assert on.racing == RacingConfig(confidence=0.99, min_images=200)
    other = load_search(SEARCH, ["racing.confidence=0.9"])
    assert len({config.digest() for config in (off, on, other)}) == 3
    assert off.evaluation_digest() == on.evaluation_digest(), "full measurements are the same with and without"


@pytest.mark.parametrize(
    "objectives",
    [["loss min", "macs min"], ["macs min"], ["top1 max", "loss min"], ["top1 min"], ["top1 max", "x min"]],
)
def test_objectives_that_cannot_be_raced_are_refused(objectives: list[str]) -> None:
    load_search({**SEARCH, "objectives": objectives})
    with pytest.raises(ConfigError, match=r"racing needs the objective 'top1 max', and .* got " + objectives[0]):
        load_search({**SEARCH, "objectives": objectives, "racing": {}})


@pytest.mark.parametrize("objectives", [["top1 max"], ["macs min", "top1 max", "keep_ratio min"]])
def test_top1_with_known_costs_is_raced(objectives: list[str]) -> None:
    assert load_search({**SEARCH, "objectives": objectives, "racing": {}}).racing is not None


def test_racing_that_could_stop_nothing_or_not_hold_is_refused() -> None:
    config = RacingConfig(min_images=200)
    assert make_racing(None, OBJECTIVES, LABELS, 250) is None
    assert make_racing(config, OBJECTIVES, LABELS, 250) is not None
    with pytest.raises(ConfigError, match=r"first look is after 500 images .* there are only 400"):
        make_racing(config, OBJECTIVES, LABELS, 500)
    with pytest.raises(ConfigError, match="first look is after 400 images"):
        make_racing(RacingConfig(min_images=201), OBJECTIVES, LABELS, 200)
    with pytest.raises(ConfigError, match=r"10 validation images a class .* there are 400 of 50 classes"):
        make_racing(config, OBJECTIVES, np.arange(IMAGES) % 50, 100)


def test_a_run_builds_its_racing_from_the_images_that_are_scored() -> None:
    prepared: Any = SimpleNamespace(
        config=load_search({**SEARCH, "racing": {"min_images": 300}, "evaluator": {"batch_size": 100}}),
        assets=SimpleNamespace(labels=LABELS),
    )
    assert isinstance(_stopper(prepared), Racing)
    prepared.assets.labels = LABELS[:300]
    with pytest.raises(ConfigError, match="only 300"):
        _stopper(prepared)
