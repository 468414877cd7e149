"""The parts of the DDPG agent, against torch and against hand computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.config.schema import AmcControllerConfig, BuiltinModel
from autoprune.controllers import make
from autoprune.controllers.amc.agent import Agent, Batch
from autoprune.controllers.amc.exploration import Schedule, truncated_normal
from autoprune.controllers.amc.modes import constants
from autoprune.controllers.amc.networks import Adam, Perceptron
from autoprune.controllers.amc.replay import Replay
from autoprune.controllers.amc.states import States
from autoprune.models.registry import build
from autoprune.space import Decoder, SearchSpace
from autoprune.testing import toy_space
from autoprune.testing.controllers import drive
from autoprune.testing.toy import ToySearch
from autoprune.types import Constraint, Objective


def in_torch(net: Perceptron, *, sigmoid: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in net._layers:
        linear = nn.Linear(*weight.shape)
        linear.load_state_dict({"weight": torch.tensor(weight.T.copy()), "bias": torch.tensor(bias)})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1], *([nn.Sigmoid()] if sigmoid else []))


def flat(net: nn.Sequential, *, gradients: bool) -> np.ndarray:
    """In the order of ``Perceptron.parameters``."""
    parts = []
    for layer in net:
        if isinstance(layer, nn.Linear):
            assert layer.weight.grad is not None
            assert layer.bias.grad is not None
            pair = (layer.weight.grad, layer.bias.grad) if gradients else (layer.weight.detach(), layer.bias.detach())
            parts += [pair[0].numpy().T.ravel(), pair[1].numpy()]
    return np.concatenate(parts)


@pytest.mark.parametrize("sigmoid", [True, False])
def test_gradients_and_adam_are_torchs(sigmoid: bool) -> None:
    rng = np.random.default_rng(0)
    net = Perceptron(5, 7, sigmoid=sigmoid, rng=rng)
    twin = in_torch(net, sigmoid=sigmoid)
    ours, theirs = Adam(net.parameters, 0.01), torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(3):
        inputs = rng.normal(size=(11, 5)).astype(np.float32)
        weights = rng.normal(size=(11, 1)).astype(np.float32)
        tensor = torch.tensor(inputs, requires_grad=True)
        theirs.zero_grad()
        result = twin(tensor)
        (result * torch.tensor(weights)).sum().backward()
        outputs = net.forward(inputs)
        gradient, slope = net.backward(outputs, weights)
        assert tensor.grad is not None
        assert np.allclose(outputs[-1], result.detach().numpy(), atol=1e-6)
        assert np.allclose(gradient, flat(twin, gradients=True), atol=1e-5)
        assert np.allclose(slope, tensor.grad.numpy(), atol=1e-6)
        ours.step(gradient)
        theirs.step()
        assert np.allclose(net.parameters, flat(twin, gradients=False), atol=1e-5)


def test_the_agent_finds_what_is_rewarded() -> None:
    """Keep 0.8 in state 0 and 0.3 in state 1."""
    rng = np.random.default_rng(0)
    agent = Agent(2, 32, rates=(3e-3, 3e-3), rng=rng)
    for _ in range(600):
        which = rng.integers(0, 2, 64)
        states = np.eye(2, dtype=np.float32)[which]
        actions = rng.uniform(size=(64, 1)).astype(np.float32)
        rewards = -((actions - np.where(which, 0.3, 0.8)[:, None].astype(np.float32)) ** 2)
        agent.update(Batch(states, actions, rewards, states, np.zeros((64, 1), dtype=np.float32)))
    assert agent.act(np.array([1.0, 0.0])) == pytest.approx(0.8, abs=0.1)
    assert agent.act(np.array([0.0, 1.0])) == pytest.approx(0.3, abs=0.1)


def test_discounted_values_reach_the_first_step() -> None:
    """With a discount of 1 and a reward of 1 at each of two steps, the first step is worth 2 and the last 1."""
    rng = np.random.default_rng(0)
    agent = Agent(2, 32, rates=(1e-3, 1e-2), rng=rng, tau=0.1)
    first, last = np.eye(2, dtype=np.float32)
    for _ in range(800):
        actions = rng.uniform(size=(2, 1)).astype(np.float32)
        ones = np.ones((2, 1), dtype=np.float32)
        agent.update(Batch(np.stack([first, last]), actions, ones, np.stack([last, last]), ones - [[0.0], [1.0]]))
    worth = agent.critic(np.hstack([np.eye(2), np.full((2, 1), 0.5)]).astype(np.float32))[:, 0]
    assert worth == pytest.approx([2.0, 1.0], abs=0.1)


def test_truncated_normal_has_the_known_mean() -> None:
    """Mean of a normal restricted to [0, 1]: mu + sigma (phi(a) - phi(b)) / (Phi(b) - Phi(a))."""
    from statistics import NormalDist

    rng, unit = np.random.default_rng(0), NormalDist()
    for mean, sigma in ((0.5, 0.5), (0.05, 0.3), (1.0, 0.01)):
        draws = [truncated_normal(mean, sigma, rng) for _ in range(4000)]
        low, high = -mean / sigma, (1 - mean) / sigma
        known = mean + sigma * (unit.pdf(low) - unit.pdf(high)) / (unit.cdf(high) - unit.cdf(low))
        assert min(draws) >= 0
        assert max(draws) <= 1
        assert np.mean(draws) == pytest.approx(known, abs=0.02)
    assert truncated_normal(0.4, 0.0, rng) == 0.4


def test_the_papers_exploration_is_over_early_and_the_mended_one_at_the_end() -> None:
    paper = constants(AmcControllerConfig(mode="paper"), 800)
    assert (paper.warmup, paper.hidden, paper.rates, paper.batch, paper.memory) == (100, 300, (1e-4, 1e-3), 64, 100)
    sigma = paper.schedule.sigma
    assert sigma(100) == 0.5
    assert sigma(100 + 45) < 0.05 < sigma(100 + 44)
    assert sigma(100 + 77) < 0.01 < sigma(100 + 76)
    for episodes in (40, 800):
        fixed = constants(AmcControllerConfig(), episodes)
        assert fixed.schedule.sigma(episodes) == pytest.approx(fixed.schedule.sigma(0) / 10)
    assert Schedule.over(5, 9, 0.3, 0.03).sigma(3) == 0.3, "a search shorter than its warm-up"


def test_replay_gives_the_reward_of_an_episode_to_each_of_its_steps() -> None:
    replay = Replay(capacity=3, steps=4, features=1)
    for episode in range(5):  # the first two are forgotten
        replay.add(np.arange(4.0)[:, None] + 10 * episode, np.arange(4) / 4, float(episode))
    assert sorted(replay.rewards) == [2.0, 3.0, 4.0]
    batch = replay.sample(200, replay.rewards, np.random.default_rng(0))
    assert (batch.rewards[:, 0] == batch.states[:, 0] // 10).all()
    step = batch.states[:, 0] % 10
    assert (batch.goes_on[:, 0] == (step < 3)).all()
    assert (batch.after[:, 0] - batch.states[:, 0] == batch.goes_on[:, 0]).all()
    assert (batch.actions[:, 0] == step / 4).all()
    at, states, actions = replay.episodes(50, np.random.default_rng(0))
    assert (states[:, :, 0] == np.arange(4) + 10 * replay.rewards[at][:, None]).all(), "whole episodes, with theirs"
    assert (actions == np.arange(4) / 4).all()


def test_replay_punishes_the_bad() -> None:
    replay = Replay(capacity=50, steps=1, features=1)
    for reward in (0.1, 0.5, np.nan, 0.9):
        replay.add(np.zeros((1, 1)), np.zeros(1), reward)
    assert replay.rewards.argmin() == 2
    assert replay.rewards[2] < 0.1 - 0.8, "by as much as the others differ"


def test_states_of_a_chain() -> None:
    """Two groups of 8 and 16 channels at 32x32 and 16x16; hand-computed."""
    space = toy_space((8, 16), multiple=4, floor=0.5)
    stem, second, head = 9 * 3 * 8 * 1024, 9 * 8 * 16 * 256, 160
    full = stem + second + head
    states = States(space, "macs").along(np.array([4, 12]))
    assert states.shape == (2, 10)
    # at first everything counts as halved; then the first group is, and what is left is the second's reader
    assert states[0, 7:] == pytest.approx([1 - (stem / 2 + second / 4 + head / 2) / full, head / full, 1.0], rel=1e-5)
    assert states[1, 7:] == pytest.approx([1 - (stem / 2 + second / 4 + head / 2) / full, 0.0, 0.5], rel=1e-5)
    assert states[:, 0].tolist() == [0.0, 1.0]
    assert states[:, 4].tolist() == [1.0, 0.0], "stride 2, and 0 for the linear layer"


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_coupled_and_depthwise_networks(name: str, mode: str) -> None:
    """Residual stages, depthwise layers and kernels of 3: proposals are filled up to the budget."""
    args = {"small_images": True} if name == "mobilenet_v2" else {}
    model = build(BuiltinModel(name=name, args=args), num_classes=10, in_channels=3)
    space = SearchSpace.from_module(model, torch.zeros(1, 3, 32, 32), check=False)
    search = ToySearch(space, (Objective("top1", "max"),), (Constraint("macs", "<=", 0.4, relative=True),))
    decoder = Decoder(space, search.constraints, objectives=search.objectives)
    config = AmcControllerConfig.model_validate({"mode": mode, "warmup": 2, "hidden": 8, "seed_uniform": 0})
    controller = make(config, space=space, decoder=decoder, objectives=search.objectives, trials=6, seed=0)
    for trial in drive(controller, search, 0, 6):
        assert 0.39 <= trial.metrics["macs"] / space.cost.baseline["macs"] <= 0.4
