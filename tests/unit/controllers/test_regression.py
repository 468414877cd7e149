"""What the regression learns, how gains of hypervolume are counted, and that both lead to better proposals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from autoprune.config.controllers import RandomControllerConfig, RegressionControllerConfig
from autoprune.controllers import make
from autoprune.controllers.drawing import Aim
from autoprune.controllers.gain import Gain
from autoprune.controllers.posterior import sampled
from autoprune.protocols import Controller
from autoprune.space import Decoder
from autoprune.testing import ToySearch, toy_space
from autoprune.testing.controllers import drive
from autoprune.types import Constraint, Objective, Trial, TrialState


def controller_of(config: object, search: ToySearch, seed: int = 0) -> Controller:
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    return make(config, space=search.space, decoder=decoder, objectives=search.objectives, trials=30, seed=seed)  # type: ignore[arg-type]


def logs_of(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.asarray(np.log(rng.uniform(0.25, 1.0, (count, 4))))


def test_what_many_trials_say_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logs, unseen = logs_of(rng, 300), logs_of(rng, 20)

    def loss(rows: np.ndarray) -> np.ndarray:
        return np.asarray(2.0 - rows @ [0.1, 0.6, 0.2, 0.3])

    sample = sampled("loss", logs, loss(logs), 0.0, rng)
    np.testing.assert_allclose(sample(unseen), loss(unseen), atol=0.02)
    odds = -loss(logs)
    sample = sampled("top1", logs, 1 / (1 + np.exp(-odds)), 0.0, rng)
    np.testing.assert_allclose(sample(unseen), 1 / (1 + np.exp(loss(unseen))), atol=0.005)


def test_draws_spread_as_long_as_little_is_known() -> None:
    rng = np.random.default_rng(0)
    unseen = logs_of(rng, 20)

    def spread(trials: int, scale: float) -> float:
        logs = logs_of(np.random.default_rng(1), trials)
        values = logs.sum(axis=1)
        draws = [sampled("loss", logs, values, scale, np.random.default_rng(seed))(unseen) for seed in range(40)]
        return float(np.std(draws, axis=0).mean())

    assert spread(200, 1.0) < 0.5 * spread(4, 1.0)
    assert spread(4, 0.0) < 1e-9
    assert np.isfinite(sampled("top1", np.zeros((0, 4)), np.zeros(0), 1.0, rng)(unseen)).all()


def test_gains_are_areas() -> None:
    """The box from (0, 0) to (1, 1), of which (0.5, 0.5) is taken: 3/4 of the points are left."""
    rng = np.random.default_rng(0)
    gain = Gain(np.array([[0.5, 0.5]]), np.array([[1.0, 1.0]]), np.zeros(2), rng)
    counts = gain(np.array([[1.0, 1.0], [0.5, 1.0], [0.75, 0.75], [0.5, 0.5], [0.2, 0.2]]))
    np.testing.assert_allclose(counts[:3] / 2048, [0.75, 0.25, 0.3125], atol=0.03)
    assert 1.0 > counts[3] > counts[4] >= 0.0, "without a gain, the higher one comes first"


def test_many_placed_at_once_cost_what_they_should() -> None:
    search = ToySearch(toy_space((16, 32, 64)), (Objective("top1", "max"), Objective("macs", "min")))
    aim = Aim(Decoder(search.space, (), objectives=search.objectives), search.objectives)
    rng = np.random.default_rng(0)
    proportions, shares = rng.uniform(-1, 1, (50, 3)), rng.uniform(size=50)
    widths = aim.widths(proportions, shares)
    for row, share, vector in zip(proportions, shares, widths, strict=True):
        placed, rough = aim.place(row, share), search.space.candidate(vector)
        assert aim.share(rough) <= share + 1e-9
        assert abs(aim.share(placed) - aim.share(rough)) < 0.12


@pytest.mark.parametrize("seed", range(3))
def test_thirty_trials_find_more_than_random_ones(seed: int) -> None:
    bound = Constraint("macs", "<=", 0.4, relative=True)
    search = ToySearch(toy_space((32,) * 8), (Objective("top1", "max"),), (bound,), landscape=seed)

    def best(config: object) -> float:
        trials = drive(controller_of(config, search, seed), search, 0, 30)
        return max(trial.metrics["top1"] for trial in trials)

    assert best(RegressionControllerConfig()) > best(RandomControllerConfig(seed_uniform=4))


def test_failures_teach_nothing_and_bad_ends_repel() -> None:
    search = ToySearch(toy_space((16,) * 4), (Objective("top1", "max"), Objective("macs", "min")))

    def proposals(end: TrialState | None) -> list[str]:
        controller = controller_of(RegressionControllerConfig(seed_uniform=0), search)

        def ended(trial: Trial) -> Trial:
            if end is None or trial.number != 5:
                return trial
            return replace(trial, state=end, metrics={**trial.metrics, "top1": math.nan})

        return [trial.candidate.digest for trial in drive(controller, search, 0, 8, ended)]

    plain, failed, diverged = proposals(None), proposals(TrialState.FAILED), proposals(TrialState.DIVERGED)
    assert plain[:6] == failed[:6] == diverged[:6]
    assert len({plain[6], failed[6], diverged[6]}) == 3
