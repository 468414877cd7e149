from __future__ import annotations

import pytest
from hypernet_nets import made

from autoprune.config.evaluation import HypernetWeights
from autoprune.errors import ConfigError
from autoprune.hypernet import footprint as footprints
from autoprune.hypernet.footprint import Footprint, footprint, require_memory
from autoprune.hypernet.network import PruningNet


@pytest.mark.parametrize("rank", [None, 1, 3])
@pytest.mark.parametrize("name", ["resnet8", "grouped", "mobilenet_v2"])
def test_it_is_what_the_network_has(name: str, rank: int | None) -> None:
    network, space = made(name)
    size = footprint(network, space.groups, HypernetWeights(kind="hypernet", hidden=6, rank=rank))
    net = PruningNet(network, space.groups, hidden=6, rank=rank)
    assert size.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert size.network_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert size.weight_bytes == sum(parameter.nbytes for parameter in net.parameters())


def test_low_rank_is_small() -> None:
    network, space = made("resnet8")
    full, low = (footprint(network, space.groups, HypernetWeights(kind="hypernet", rank=rank)) for rank in (None, 1))
    assert full.parameters > 30 * full.network_parameters
    assert low.parameters < full.parameters / 4


@pytest.mark.parametrize(("rank", "advice"), [(None, "rank to 1"), (1, "smaller evaluator.weights.hidden or rank")])
def test_more_than_the_machine_has_is_refused(monkeypatch: pytest.MonkeyPatch, rank: int | None, advice: str) -> None:
    monkeypatch.setattr(footprints.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(footprints.os, "sysconf", lambda name: 1024)
    weights = HypernetWeights(kind="hypernet", rank=rank)
    require_memory(Footprint(parameters=80_000, network_parameters=1), weights)
    with pytest.raises(ConfigError, match=r"take 0.0 GB in training, and there are 0.0 GB") as caught:
        require_memory(Footprint(parameters=90_000, network_parameters=1), weights)
    assert advice in caught.value.hint
