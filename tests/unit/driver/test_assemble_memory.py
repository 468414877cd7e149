"""Memory metrics join the costs of a search that names one of them, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from autoprune.config.loading import load_search
from autoprune.config.schema import SearchConfig
from autoprune.driver.assemble import _network, make_space
from autoprune.driver.assemble_memory import with_memory
from autoprune.driver.observers import Silent
from autoprune.space.decoding import Decoder

SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}


def config(**changes: Any) -> SearchConfig:
    return load_search({"name": "m", "space": SPACE, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"constraints": ["peak_activation_bytes <= 0.6 * baseline"]},
        {"objectives": ["top1 max", "weight_bytes min"], "constraints": ["peak_activation_bytes <= 12k"]},
    ],
    ids=["constraint", "objective"],
)
def test_a_search_under_memory(changes: dict[str, Any]) -> None:
    asked = config(**changes)
    space = with_memory(make_space(asked.space), asked, Silent(), lambda: _network(asked.space))
    decoder = Decoder(space, asked.parsed_constraints(), objectives=asked.parsed_objectives())
    measured = space.cost.measure(decoder.decode(space.full()))
    assert {"weight_bytes", "peak_activation_bytes", "macs"} <= measured.keys()
    (bound,) = asked.parsed_constraints()
    assert 0 < measured["peak_activation_bytes"] <= bound.bound(space.cost.baseline)


def test_other_searches_do_not_pay_for_it() -> None:
    asked = config(constraints=["macs <= 0.5 * baseline"])
    space = make_space(asked.space)
    assert with_memory(space, asked, Silent(), lambda: pytest.fail("built the model")) is space
