"""Two networks in turns, on a clock that is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.latency import compare
from autoprune.latency.compare import measure_side_by_side
from autoprune.latency.measure import Run


def test_rounds_are_paired_and_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks slow down from round to round; their ratio does not."""
    order: list[str] = []
    takes = {"slow": 3.0, "fast": 1.0}

    class Named(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def ready(model: Named, example: Tensor, settings: object) -> object:
        def run() -> Run:
            order.append(model.name)
            pace = 1.0 + len(order) // 10
            return Run(takes[model.name] * pace)

        return run

    monkeypatch.setattr(compare, "ready_runner", ready)
    networks = {name: Named(name) for name in takes}
    found = measure_side_by_side(networks, torch.zeros(1), repeats=12, rounds=4, warmup=0)
    assert found.latencies["slow"].runs == 12
    assert found.rounds["slow"].shape == (4,)
    blocks = [name for at, name in enumerate(order) if at == 0 or order[at - 1] != name]
    assert blocks[2:] == ["slow", "fast", "slow", "fast", "slow"]  # every second round in reverse
    low, middle, high = found.ratio("slow", "fast")
    assert 1.5 <= low <= middle <= high <= 6.0
    assert middle == pytest.approx(3.0, rel=0.35)
