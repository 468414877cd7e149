"""The mended agent: its actions under a budget, its critic, and what it saves."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from autoprune.config.schema import AmcControllerConfig
from autoprune.controllers import make
from autoprune.controllers.amc import controller as module
from autoprune.controllers.amc.allocator import Allocator
from autoprune.controllers.amc.controller import AmcController
from autoprune.controllers.amc.critic import EpisodeCritic
from autoprune.controllers.amc.steps import Steps
from autoprune.space import Decoder
from autoprune.testing import ToySearch, toy_space
from autoprune.testing.controllers import drive
from autoprune.types import Constraint, Objective

SPACE = toy_space((16, 16, 32, 32), multiple=2, floor=0.25)
STEPS = Steps(SPACE, "macs")


def controller_of(search: ToySearch, trials: int = 40) -> AmcController:
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    config = AmcControllerConfig(hidden=8)
    made = make(config, space=search.space, decoder=decoder, objectives=search.objectives, trials=trials, seed=0)
    assert isinstance(made, AmcController)
    return made


def test_states_along_an_episode() -> None:
    """Two groups of 8 and 16 channels; hand-computed."""
    space = toy_space((8, 16), multiple=4, floor=0.5)
    steps = Steps(space, "macs")
    states = steps.along(np.array([[0.25, 1.0]]), np.array([0.7]))[0]
    assert states.shape == (2, steps.features)
    assert states[:, 8:10].tolist() == [[1.0, 0.0], [0.0, 1.0]], "which group it is"
    first, second = space.cost.share() + 1e-3
    assert states[0, -4:] == pytest.approx([0.5, 0.5, second / (first + second), 0.7])
    assert states[1, -4:] == pytest.approx([0.25, 0.25, 0.0, 0.7], abs=1e-6)
    longer = STEPS.along(np.array([[0.1, 0.4, 0.9, 0.3]]), np.array([0.0]))[0]
    shares = SPACE.cost.share()[:2] + 1e-3
    assert longer[2, -3] == pytest.approx((shares * [0.1, 0.4]).sum() / shares.sum())
    prefix = STEPS.along(np.array([[0.1, 0.4, 0.2]]), np.array([0.0]))[0]
    assert (prefix == longer[:3]).all(), "an action changes no state up to its own"


def test_equal_actions_are_uniform_widths_at_any_cost() -> None:
    full = SPACE.cost.baseline["macs"]
    for share in (0.2, 0.5, 0.8):
        logs = STEPS.placed(np.full((1, 4), 0.5), np.array([share * full]))
        assert np.ptp(logs) == 0
        assert STEPS.cost(logs)[0] == pytest.approx(share * full, rel=1e-2)
    logs = STEPS.placed(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([0.5 * full]))[0]
    assert logs[0] > logs[1] == logs[2] > logs[3]
    assert (logs >= np.log(0.25) - 1e-9).all()


def test_slopes_net_of_cost_are_those_of_placed_widths() -> None:
    """Against numerical differences of the value of the placed widths, where nothing is at an end of its range."""
    budget, weights = np.array([0.45 * SPACE.cost.baseline["macs"]]), np.array([0.3, -0.2, 0.5, 0.1])
    actions, step = np.array([[0.55, 0.5, 0.45, 0.5]]), 0.05

    def value(actions: np.ndarray) -> float:
        return float((STEPS.placed(actions, budget) @ weights)[0])

    net = STEPS.net_of_cost(STEPS.placed(actions, budget), np.broadcast_to(weights, (1, 4)))[0]
    for at in range(4):
        move = np.eye(4)[at] * step
        slope = (value(actions + move) - value(actions - move)) / (2 * step)
        assert 2 * STEPS.reach * net[at] == pytest.approx(slope, abs=0.03)


def test_a_group_at_its_end_is_not_pushed_further() -> None:
    logs = np.array([[0.0, math.log(0.25), math.log(0.5), math.log(0.6)]])
    net = STEPS.net_of_cost(logs, np.array([[5.0, -5.0, 1.0, 0.5]]))
    assert net[0, :2].tolist() == [0.0, 0.0]
    assert net[0, 2] != 0


def test_slopes_of_the_critic_are_numerical_ones() -> None:
    critic = EpisodeCritic(STEPS.static, STEPS.reach, 8, 3e-3, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    logs = np.log(rng.uniform(0.3, 1.0, (40, 4)))
    for _ in range(50):
        critic.fit(logs, logs.sum(axis=1))
    slopes, at = critic.slopes(logs), 0.02
    for group in range(4):
        move = np.eye(4)[group] * at
        numerical = (critic.values(logs + move) - critic.values(logs - move)) / (2 * at)
        assert np.median(np.abs(slopes[:, group] - numerical)) < 0.02


def test_credit_goes_to_the_group_that_earned_it() -> None:
    """Forty episodes whose reward depends on the third group most, on the second not at all."""
    rng, worth = np.random.default_rng(0), np.array([0.4, 0.0, 1.0, 0.1])
    logs = np.log(rng.uniform(0.3, 1.0, (40, 4)))
    rewards = logs @ worth
    critic = EpisodeCritic(STEPS.static, STEPS.reach, 32, 3e-3, rng)
    for _ in range(400):
        at = rng.integers(0, 40, 32)
        critic.fit(logs[at], rewards[at] - rewards.mean())
    assert critic.slopes(logs).mean(axis=0) == pytest.approx(worth, abs=0.15)


def test_the_actor_widens_what_is_worth_its_cost() -> None:
    rng, cheap = np.random.default_rng(0), 3
    agent = Allocator(STEPS, 16, (3e-3, 3e-3), rng)
    shares = np.full(32, 0.4)
    before = agent.episodes(shares[:1])[0]
    assert np.abs(before - 0.5).max() < 0.1, "uniform widths at first"
    for _ in range(200):
        actions = rng.uniform(0.2, 0.8, (32, 4))
        logs = STEPS.placed(actions, np.full(32, 0.4 * SPACE.cost.baseline["macs"]))
        agent.learn(STEPS.along(actions, shares), logs, logs[:, cheap])
    after = agent.episodes(shares[:1])[0]
    assert after.argmax() == cheap
    assert after[cheap] > before[cheap] + 0.2


def test_networks_and_optimizers_are_saved_to_the_bit() -> None:
    def trained(updates: int, agent: Allocator) -> Allocator:
        rng = np.random.default_rng(updates)
        for _ in range(updates):
            actions = rng.uniform(size=(8, 4))
            logs = STEPS.placed(actions, rng.uniform(0.3, 0.9, 8) * SPACE.cost.baseline["macs"])
            agent.learn(STEPS.along(actions, np.zeros(8)), logs, logs[:, 0])
        return agent

    one = trained(5, Allocator(STEPS, 8, (3e-3, 3e-3), np.random.default_rng(0)))
    two = Allocator(STEPS, 8, (3e-3, 3e-3), np.random.default_rng(1))
    assert two.load(one.saved())
    assert trained(3, one).saved() == trained(3, two).saved(), "optimizers as well"
    assert not two.load(Allocator(STEPS, 9, (3e-3, 3e-3), np.random.default_rng(0)).saved())


def test_a_resume_takes_networks_from_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only episodes after the saving are learnt again; the future is that of the uncut run."""
    monkeypatch.setattr(module, "_SAVE_EVERY", 10)
    search = ToySearch(SPACE)
    uncut = drive(controller_of(search), search, 0, 36)
    cut = controller_of(search)
    drive(cut, search, 0, 34)
    state = json.loads(json.dumps(dict(cut.state())))
    assert state["learnt"] == 30
    learnt: list[int] = []
    resumed = controller_of(search)
    spy = AmcController._learn
    monkeypatch.setattr(AmcController, "_learn", lambda self, number: (learnt.append(number), spy(self, number))[1])
    resumed.load_state(state, uncut[:34])
    assert learnt == [30, 31, 32, 33]
    assert resumed.state() == state
    assert drive(resumed, search, 34, 36) == uncut[34:]


def test_a_state_that_does_not_fit_is_learnt_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY", 10)
    search = ToySearch(SPACE)
    uncut = drive(controller_of(search), search, 0, 24)
    for broken in ({"learnt": 20, "networks": ""}, {"learnt": 999, "networks": "AAAA"}, {}):
        resumed = controller_of(search)
        resumed.load_state({"trials": 40, **broken}, uncut[:22])
        assert drive(resumed, search, 22, 24) == uncut[22:]


@pytest.mark.parametrize("share", [0.3, None], ids=["budget", "front"])
def test_beats_random_after_sixty_trials(share: float | None) -> None:
    """The mean over three landscapes of the best accuracy under the budget, or under half of the MACs."""
    space = toy_space((32,) * 4 + (64,) * 4, multiple=4, floor=0.25)
    top1 = Objective("top1", "max")
    if share is None:
        kinds = {"objectives": (top1, Objective("macs", "min"))}
    else:
        kinds = {"objectives": (top1,), "constraints": (Constraint("macs", "<=", share, relative=True),)}

    def best(config: AmcControllerConfig, landscape: int) -> float:
        search = ToySearch(space, landscape=landscape, **kinds)  # type: ignore[arg-type]
        decoder = Decoder(space, search.constraints, objectives=search.objectives)
        controller = make(config, space=space, decoder=decoder, objectives=search.objectives, trials=60, seed=0)
        limit = 0.5 * space.cost.baseline["macs"]
        return max(
            trial.metrics["top1"] for trial in drive(controller, search, 0, 60) if trial.metrics["macs"] <= limit
        )

    never = AmcControllerConfig(warmup=60)  # all of it drawn at random
    differences = [best(AmcControllerConfig(), at) - best(never, at) for at in range(3)]
    assert np.mean(differences) > 0.02
