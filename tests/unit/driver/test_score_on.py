"""Scores on another split: those of the plain module with the trial's own statistics, whichever way runs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autoprune.config.schema import BuiltinModel, EvaluatorConfig
from autoprune.data.dataset import Split
from autoprune.driver.assemble import Prepared
from autoprune.evaluators import networks
from autoprune.evaluators.assets import Assets
from autoprune.evaluators.evaluator import make_evaluator
from autoprune.models import registry
from autoprune.pruning import criteria
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank
from autoprune.training.scoring import score
from autoprune.types import Candidate

MODEL = BuiltinModel(name="resnet8")


def assets() -> Assets:
    torch.manual_seed(0)
    module = registry.build(MODEL, num_classes=4, in_channels=1).eval()
    found = discover(module, torch.zeros(1, 1, 8, 8), check=False)
    rng = np.random.default_rng(0)
    return Assets(
        model=MODEL,
        num_classes=4,
        in_channels=1,
        state={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        groups=found.groups,
        ranking=rank(module, found.groups, criteria.get("l1")),
        calibration_images=rng.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8),
        images=rng.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8),
        labels=rng.integers(0, 4, 20),
        mean=(0.4,),
        std=(0.3,),
        config=EvaluatorConfig(calibration_images=40, validation_images=20, batch_size=20),
    )


@pytest.mark.parametrize("way", ["fused", "plain"])
def test_scores_are_those_of_the_calibrated_plain_module(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "autocast_dtype", lambda wanted, device: None)  # also without a compiler
    given = assets()
    evaluator = make_evaluator(given)
    if way == "plain":
        evaluator.networks.program = None
    else:
        assert evaluator.networks.program is not None
    prepared = SimpleNamespace(
        evaluator=evaluator,
        dataset=SimpleNamespace(mean=given.mean, std=given.std),
        config=SimpleNamespace(evaluator=given.config),
    )
    rng = np.random.default_rng(1)
    split = Split(rng.integers(0, 256, (70, 1, 8, 8), dtype=np.uint8), rng.integers(0, 4, 70))
    candidates = [
        Candidate({group.name: max(1, int(group.channels * share)) for group in given.groups})
        for share in (0.5, 0.8, 1)
    ]
    found = list(Prepared.score_on(prepared, candidates, split))  # type: ignore[arg-type]
    assert torch.get_num_threads() >= 1
    for candidate, metrics in zip(candidates, found, strict=True):
        model = evaluator.materialise(candidate)
        expected = score(model, split, mean=given.mean, std=given.std, batch_size=20)
        assert metrics["top1"] == expected["top1"]
        assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert len({metrics["loss"] for metrics in found}) == 3
