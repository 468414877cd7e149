"""Spaces that leave little or nothing to search, and more trials at once than a population holds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from autoprune.config.controllers import ControllerConfig
from autoprune.controllers import make, names
from autoprune.protocols import Controller
from autoprune.space import Decoder
from autoprune.testing import ToySearch, toy_space
from autoprune.testing.controllers import drive, finished
from autoprune.types import Objective, Trial

SAMPLERS = ("tpe", "nsga2", "nsga3", "cmaes", "gp", "qmc", "random")
CONFIGS: list[dict[str, Any]] = [
    *({"kind": name} for name in names() if name not in ("optuna", "amc")),
    {"kind": "amc", "warmup": 2, "hidden": 4},
    {"kind": "amc", "mode": "paper", "warmup": 2, "hidden": 4},
    *({"kind": "optuna", "sampler": name} for name in SAMPLERS if name not in ("tpe", "gp")),
    *({"kind": "optuna", "sampler": name, "startup_trials": 3} for name in ("tpe", "gp")),
]


def _name(config: dict[str, Any]) -> str:
    return " ".join(str(config[key]) for key in ("kind", "sampler", "mode") if key in config)


def _made(config: dict[str, Any], search: ToySearch) -> Controller:
    parsed: Any = TypeAdapter(ControllerConfig).validate_python(config)
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    return make(parsed, space=search.space, decoder=decoder, objectives=search.objectives, trials=12, seed=0)


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_one_group(config: dict[str, Any]) -> None:
    """Sixteen candidates: every proposal is one of them."""
    search = ToySearch(toy_space((64,), multiple=4, floor=0.05), (Objective("top1", "max"),))
    trials = drive(_made(config, search), search, 0, 12)
    assert trials
    for trial in trials:
        search.space.validate(trial.candidate)


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_all_groups_fixed(config: dict[str, Any]) -> None:
    """One candidate is proposed, once or again and again, and nothing raises."""
    search = ToySearch(toy_space((8, 8), multiple=8, floor=1.0), (Objective("top1", "max"),))
    assert search.space.size == 1
    controller = _made(config, search)
    trials = drive(controller, search, 0, 4)
    assert {trial.candidate.digest for trial in trials} == {search.space.full().digest}
    assert len(trials) == 4 or controller.exhausted


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "cmaes"])
def test_more_trials_at_once_than_the_population(sampler: str) -> None:
    """Ten run at a time in generations of four: generations go on, in the order of finishing."""
    search = ToySearch(toy_space((32,) * 4, multiple=2), (Objective("top1", "max"),))
    controller = _made({"kind": "optuna", "sampler": sampler, "population": 4, "seed_uniform": 0}, search)
    generations: list[int] = []
    for first in range(0, 40, 10):
        running: list[Trial] = []
        for number in range(first, first + 10):
            proposal = controller.ask(number)
            assert proposal is not None
            running.append(finished(search, number, proposal))
            note = proposal.note["generation"]
            assert isinstance(note, dict)
            generations += note.values()
        for trial in reversed(running):
            controller.tell(trial)
    assert generations == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
