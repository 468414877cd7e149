"""The networks that Li et al. 2017 pruned by hand, with the reductions that their table 1 publishes."""

from __future__ import annotations

import pytest
import torch

from autoprune.config.schema import BuiltinModel
from autoprune.cost.trace import trace
from autoprune.models.registry import build
from autoprune.procedures.tables import TABLES
from autoprune.pruning.allocation import Choices
from autoprune.pruning.groups import discover
from autoprune.types import Candidate


@pytest.mark.parametrize("name", list(TABLES))
def test_published_reductions(name: str) -> None:
    """Table 1 prints a tenth of a percent; the shortcuts are those of its ResNets, without parameters."""
    table = TABLES[name]
    args = {"shortcut": "A"} if table.model.startswith("resnet") else {}
    model, image = (
        build(BuiltinModel(name=table.model, args=args), num_classes=10, in_channels=3),
        torch.zeros(1, 3, 32, 32),
    )
    groups = discover(model, image, check=False).groups
    assert table.shares.keys() <= {group.name for group in groups}
    choices = Choices({group.name: range(1, group.units + 1) for group in groups}, lambda counts: True)
    cost = trace(model, image, groups)
    pruned = cost.measure(Candidate(choices.by_share(table.shares)))
    assert 1 - pruned["macs"] / cost.baseline["macs"] == pytest.approx(table.macs_removed, abs=1e-3)
    assert 1 - pruned["params"] / cost.baseline["params"] == pytest.approx(table.params_removed, abs=5e-3)
