"""What Optuna's samplers are shown, what they remember, and which settings each takes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState as OptunaState
from pydantic import ValidationError
from scipy.stats import qmc

from autoprune.config.controllers import OptunaControllerConfig
from autoprune.config.loading import load_search
from autoprune.controllers import make
from autoprune.controllers.optuna.cmaes import CmaEs
from autoprune.controllers.optuna.memory import Memory
from autoprune.controllers.optuna.samplers import samplers
from autoprune.errors import ConfigError
from autoprune.protocols import Controller
from autoprune.space import Decoder
from autoprune.testing import ToySearch, toy_space
from autoprune.testing.controllers import drive
from autoprune.types import Constraint, Objective, Trial, TrialState

SQUARE: dict[str, BaseDistribution] = {"x": FloatDistribution(-1.0, 1.0), "y": FloatDistribution(0.0, 1.0)}
AT = {"x": 0.0, "y": 0.5}


def _controller(search: ToySearch, seed: int = 0, **config: Any) -> Controller:
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    return make(
        OptunaControllerConfig.model_validate(config),
        space=search.space,
        decoder=decoder,
        objectives=search.objectives,
        trials=100,
        seed=seed,
    )


# --- what a sampler sees ----------------------------------------------------------------------------------------------


def test_a_window_shows_the_best_the_latest_and_what_runs() -> None:
    memory = Memory(SQUARE, 1, history=100)
    for number, loss in enumerate([5.0, 1.0, 7.0, 2.0, 9.0, 8.0, 6.0, 4.0]):
        memory.finish(number, AT, {}, np.array([loss]))
    memory.begin(8, AT, {})
    shown = memory.seen(4)
    assert [trial.number - 1 for trial in shown] == [1, 3, 6, 7, 8]
    assert shown[-1].state is OptunaState.RUNNING
    assert len(memory.seen(8)) == len(memory.seen(100)) == 9
    assert memory.seen(0) == []


def test_what_runs_is_shown_up_to_the_window() -> None:
    memory = Memory(SQUARE, 1, history=100)
    for number in range(20):
        memory.begin(number, AT, {})
    assert [trial.number - 1 for trial in memory.seen(8)] == list(range(12, 20))


def test_a_history_forgets_all_but_the_best_and_the_latest() -> None:
    memory = Memory(SQUARE, 1, history=8)
    for number in range(30):
        memory.finish(number, AT, {}, np.array([0.0 if number == 2 else 30.0 - number % 7]))
        assert len(memory.seen(100)) <= 8
    kept = [trial.number - 1 for trial in memory.seen(100)]
    assert 2 in kept
    assert kept[-4:] == [26, 27, 28, 29]


def test_a_window_over_two_objectives_keeps_the_front() -> None:
    memory = Memory(SQUARE, 2, history=100)
    front = [(0.0, 3.0), (1.0, 1.0), (3.0, 0.0)]
    for number, losses in enumerate([*front, *((4.0 + at, 4.0) for at in range(7))]):
        memory.finish(number, AT, {}, np.array(losses))
    assert [trial.number - 1 for trial in memory.seen(6)] == [0, 1, 2, 7, 8, 9]


def test_bad_trials_break_a_constraint_and_are_worse_than_any_other() -> None:
    memory = Memory(SQUARE, 2, history=100)
    memory.finish(0, AT, {}, np.array([1.0, 5.0]))
    assert memory.seen(100)[0].constraints == {}
    bad = memory.finish(1, AT, {}, np.array([math.inf, math.inf]))
    good = memory.finish(2, AT, {}, np.array([2.0, 4.0]))
    assert bad.constraints == {"allowed": 1.0}
    assert bad.values[0] > 1.0
    assert bad.values[1] > 5.0
    assert good.constraints == memory.seen(100)[0].constraints == {"allowed": 0.0}


def test_failed_trials_leave_nothing_behind() -> None:
    memory = Memory(SQUARE, 1, history=100)
    memory.begin(0, AT, {})
    memory.forget_running(0)
    assert memory.seen(100) == []
    memory.finish(1, AT, {}, np.array([1.0]))
    memory.forget_running(1)
    assert len(memory.seen(100)) == 1, "a second tell takes nothing away"


# --- what samplers do -------------------------------------------------------------------------------------------------


def test_qmc_follows_a_scrambled_sequence_by_the_trials_number() -> None:
    made = samplers(OptunaControllerConfig(sampler="qmc"), SQUARE, 3, lambda params: True)
    asked = [Memory(SQUARE, 1, history=100).study(0).suggested(made.make(number, 0), SQUARE)[0] for number in (5, 0, 6)]
    engine = made.make(0, 0)
    sequence = qmc.Sobol(2, seed=engine._seed, scramble=True).random(8)  # type: ignore[attr-defined]
    for number, params in zip((5, 0, 6), asked, strict=True):
        assert [(params["x"] + 1) / 2, params["y"]] == pytest.approx(sequence[number])


def test_cmaes_finds_the_minimum_and_begins_anew_once_it_has_converged() -> None:
    """The sphere around (0.3, 0.6): near in 60 generations; a restart has twice the population."""
    strategy = CmaEs(6, SQUARE, 0)
    memory = Memory(SQUARE, 1, history=100)
    losses, generations = [], []
    for number in range(2000):
        params, attributes = memory.study(strategy.window).suggested(strategy.make(number, 0), SQUARE)
        generations.append(attributes["cma:generation"])
        loss = (params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2
        losses.append(loss)
        strategy.told(memory.finish(number, params, attributes, np.array([loss])))
    assert min(losses[:360]) < 1e-6
    sizes = np.bincount(generations)
    assert sizes[0] == 6
    assert 12 in sizes
    assert (np.diff(generations) >= 0).all()


def test_cmaes_takes_no_trial_of_an_earlier_generation() -> None:
    strategy = CmaEs(4, SQUARE, 0)
    memory = Memory(SQUARE, 1, history=100)
    asked = [memory.study(0).suggested(strategy.make(number, 0), SQUARE) for number in range(7)]
    for number, (params, attributes) in enumerate(asked):
        strategy.told(memory.finish(number, params, attributes, np.array([float(number)])))
    assert strategy.generation == 1


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_hundreds_of_generations_resume(sampler: str) -> None:
    """Each generation's parents follow from those of the one before, without a call inside a call for each."""
    search = ToySearch(toy_space((32,) * 4, multiple=1, floor=0.1))
    key = {"nsga2": "_Nsga2:generation", "nsga3": "_Nsga3:generation"}[sampler]
    points = np.random.default_rng(0).permutation(25**4)[:1600]
    history: list[Trial] = []
    for number in range(1600):
        places = np.unravel_index(points[number], (25,) * 4)
        pairs = zip(search.space.dimensions, places, strict=True)
        widths = {item.name: item.allowed[int(at)] for item, at in pairs}
        candidate = replace(search.space.full(), widths=widths)
        note = {"generation": {key: number // 2}}
        history.append(Trial(number, candidate, TrialState.COMPLETE, search.measure(candidate), note=note))
    controller = _controller(search, sampler=sampler, population=2)
    controller.load_state({}, history)
    proposal = controller.ask(1600)
    assert proposal is not None
    assert proposal.note["generation"] == {key: 800}


def test_gp_beats_random_on_a_toy() -> None:
    """The best accuracy at a fixed budget after 30 trials, mean of two seeds; and it proposes nothing twice."""
    bound = Constraint("macs", "<=", 0.3, relative=True)
    search = ToySearch(toy_space((32,) * 6, multiple=2, floor=0.1), (Objective("top1", "max"),), (bound,))
    best: dict[str, list[float]] = {"gp": [], "random": []}
    for sampler, values in best.items():
        for seed in range(2):
            trials = drive(_controller(search, seed, sampler=sampler, seed_uniform=0), search, 0, 30)
            values.append(max(trial.metrics["top1"] for trial in trials))
            assert len({trial.candidate.digest for trial in trials}) == 30
    assert np.mean(best["gp"]) > np.mean(best["random"]) + 0.005


# --- settings ---------------------------------------------------------------------------------------------------------

SEARCH: dict[str, Any] = {
    "name": "toy",
    "space": {
        "model": {"kind": "builtin", "name": "resnet8"},
        "data": {"kind": "digits"},
        "base": {"recipe": {"epochs": 1}},
    },
}


@pytest.mark.parametrize(
    ("controller", "message"),
    [
        ({"sampler": "nsga4"}, "there is no sampler 'nsga4'. Did you mean 'nsga3'"),
        ({"sampler": "cmaes"}, "sampler cmaes follows one objective, got 2 (top1 max, macs min)"),
        (
            {"sampler": "tpe", "population": 30},
            "population is a key of nsga2 and nsga3 and cmaes; sampler tpe has none",
        ),
        ({"sampler": "qmc", "startup_trials": 3}, "startup_trials is a key of tpe and gp; sampler qmc has none"),
        ({"sampler": "nsga2", "window": 100}, "window is a key of tpe and gp; sampler nsga2 has none"),
        ({"sampler": "nsga2", "history": 100}, "history is a key of tpe and gp; sampler nsga2 has none"),
        ({"window": 100, "history": 50}, "history must be at least the window, got 50 and a window of 100"),
        ({"sampler": "gp", "window": 0}, "controller.window: Input should be greater than or equal to 8 (got 0)"),
        ({"sampler": "nsga3", "population": -4}, "controller.population: Input should be greater than or equal to 2"),
        ({"sampler": "gp", "mutation": 0.1}, "unknown key 'controller.mutation'"),
    ],
)
def test_settings_that_a_sampler_cannot_take(controller: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_search({**SEARCH, "controller": {"kind": "optuna", **controller}})
    assert message in str(caught.value)


def test_cmaes_takes_one_objective() -> None:
    search = {**SEARCH, "objectives": ["top1 max"], "controller": {"kind": "optuna", "sampler": "cmaes"}}
    assert load_search(search).controller.population == 10  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="one objective, got 2"):
        _controller(ToySearch(toy_space()), sampler="cmaes")


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "cmaes", "gp", "qmc", "random"])
def test_stored_settings_are_read_back(sampler: str) -> None:
    config = OptunaControllerConfig.model_validate({"sampler": sampler})
    stored = config.model_dump(mode="json")
    assert "window" not in stored, "searches from before there was a window keep their digest"
    assert OptunaControllerConfig.model_validate(stored) == config


def test_a_window_is_stored() -> None:
    config = OptunaControllerConfig(window=40)
    assert OptunaControllerConfig.model_validate(config.model_dump(mode="json")).window == 40
    with pytest.raises(ValidationError):
        OptunaControllerConfig(window=4)
