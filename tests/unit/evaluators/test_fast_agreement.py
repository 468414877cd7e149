"""What a search sees: the fused evaluator's top1 beside the plain float32 one's, over many candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autoprune.config.schema import BuiltinModel, DigitsData, EvaluatorConfig
from autoprune.data import sources
from autoprune.evaluators import networks
from autoprune.evaluators.assets import Assets
from autoprune.evaluators.evaluator import make_evaluator
from autoprune.evaluators.fast import FastNetwork
from autoprune.models import registry
from autoprune.pruning import criteria
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank
from autoprune.types import Candidate

MODEL = BuiltinModel(name="resnet8")


@pytest.fixture(scope="module")
def assets() -> Assets:
    """An untrained network on real digits: its logits lie close together, so that rounding shows where it matters."""
    torch.manual_seed(0)
    module = registry.build(MODEL, num_classes=10, in_channels=1).eval()
    groups = discover(module, torch.zeros(1, 1, 8, 8)).groups
    dataset = sources.load(DigitsData(search_val=0.4))
    return Assets(
        model=MODEL,
        num_classes=10,
        in_channels=1,
        state={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        groups=groups,
        ranking=rank(module, groups, criteria.get("l1")),
        calibration_images=dataset.train.images[:600],
        images=dataset.search_val.images,
        labels=dataset.search_val.labels,
        mean=dataset.mean,
        std=dataset.std,
        config=EvaluatorConfig(),
    )


def test_top1_of_each_candidate_is_within_half_a_point_of_float32(
    assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPRUNE_NATIVE", "0")
    monkeypatch.setattr(networks, "autocast_dtype", lambda wanted, device: None)
    fast, plain = make_evaluator(assets), make_evaluator(assets)
    plain.networks.program = None
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(12):
        candidate = Candidate(
            {group.name: group.unit * int(generator.integers(1, group.units + 1)) for group in assets.groups}
        )
        ours, theirs = ([*evaluator.evaluate(candidate)][-1].metrics for evaluator in (fast, plain))
        differences.append(abs(ours["top1"] - theirs["top1"]))
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    assert isinstance(fast.networks.network(fast.materialise(candidate)), FastNetwork)
    assert max(differences) <= 0.005
    assert np.mean(differences) <= 0.001


def test_the_materialised_model_is_plain(assets: Assets) -> None:
    evaluator = make_evaluator(assets)
    full = Candidate({group.name: group.channels for group in assets.groups})
    model = evaluator.materialise(full)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == {
        name: array.shape for name, array in assets.state.items()
    }
    for name, tensor in model.named_parameters():
        np.testing.assert_array_equal(tensor.numpy(), assets.state[name])
