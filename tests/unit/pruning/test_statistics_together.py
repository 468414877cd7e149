"""All statistics from one pass are what each gives from a pass of its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.pruning import criteria
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import scores
from autoprune.pruning.statistics import collect


def test_one_pass_for_all_criteria() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 4)),
    ).eval()
    groups = discover(model, torch.zeros(1, 3, 8, 8)).groups
    examples: list[tuple[Tensor, Tensor | None]] = [(torch.randn(8, 3, 8, 8), torch.arange(8) % 4) for _ in range(2)]
    made = {name: criteria.get(name) for name in criteria.names()}
    together = collect(model, groups, frozenset().union(*(each.needs for each in made.values())), examples)
    fallback = criteria.get("l1")
    for name, criterion in made.items():
        alone = collect(model, groups, criterion.needs, examples)
        expected = scores(model, groups, criterion, alone, fallback=fallback).values
        got = scores(model, groups, criterion, together, fallback=fallback).values
        for group in groups:
            np.testing.assert_allclose(got[group.name], expected[group.name], rtol=1e-6, err_msg=name)
