"""Every controller under a real session: a search cut anywhere and resumed proposes what the uncut one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune.config.controllers import RegressionControllerConfig
from autoprune.config.schema import (
    AmcControllerConfig,
    ControllerConfig,
    EagleEyeControllerConfig,
    EvolutionControllerConfig,
    LimitsConfig,
    NetAdaptControllerConfig,
    OptunaControllerConfig,
    RandomControllerConfig,
    UniformControllerConfig,
)
from autoprune.controllers import registry
from autoprune.driver.session import Session
from autoprune.executors import SerialExecutor
from autoprune.space.decoding import Decoder
from autoprune.store import Store, new_owner, open_store
from autoprune.testing import ToySearch, toy_space
from autoprune.types import Candidate, Constraint, Measurement

TRIALS = 36
TOY = ToySearch(toy_space(), constraints=(Constraint("macs", "<=", 0.6, relative=True),))


class Evaluator:
    def __init__(self) -> None:
        self.ran: list[str] = []

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        self.ran.append(candidate.digest)
        yield Measurement(TOY.measure(candidate), 1, 0.0, True)


def session(store: Store, name: str, config: ControllerConfig, trials: int) -> Session:
    record = store.create_search(name, config={}, digest="d", evaluation_digest=name, baseline=TOY.space.cost.baseline)
    decoder = Decoder(TOY.space, TOY.constraints, objectives=TOY.objectives, tolerance=0.02)
    controller = registry.make(
        config, space=TOY.space, decoder=decoder, objectives=TOY.objectives, trials=TRIALS, seed=3
    )
    return Session(
        store=store,
        search=record,
        lease=store.claim(name, owner=new_owner(), ttl_seconds=60),
        controller=controller,
        decoder=decoder,
        space=TOY.space,
        objectives=TOY.objectives,
        constraints=TOY.constraints,
        limits=LimitsConfig(trials=trials),
    )


@pytest.mark.parametrize("cut", [1, 10, 23])
@pytest.mark.parametrize(
    "config",
    [
        UniformControllerConfig(),
        RandomControllerConfig(seed_uniform=3),
        RegressionControllerConfig(),
        OptunaControllerConfig(sampler="tpe", startup_trials=8, seed_uniform=2),
        OptunaControllerConfig(sampler="tpe", startup_trials=8, seed_uniform=2, window=8, history=8),
        OptunaControllerConfig(sampler="nsga2", population=8, seed_uniform=2),
        OptunaControllerConfig(sampler="random"),
        EvolutionControllerConfig(population=8, seed_uniform=2),
        EvolutionControllerConfig.model_validate({"preset": "metapruning", "population": 8, "parents": 4}),
        NetAdaptControllerConfig(),
        EagleEyeControllerConfig(),
        AmcControllerConfig(warmup=6, hidden=16, seed_uniform=2),
        AmcControllerConfig(mode="paper", warmup=6, hidden=16),
    ],
    ids=[
        "uniform",
        "random",
        "regression",
        "tpe",
        "tpe-forgets",
        "nsga2",
        "optuna-random",
        "evolution",
        "metapruning",
        "netadapt",
        "eagleeye",
        "amc",
        "amc-paper",
    ],
)
def test_a_resumed_search_proposes_what_the_uncut_one_does(tmp_path: Path, config: ControllerConfig, cut: int) -> None:
    evaluator = Evaluator()
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        with session(store, "uncut", config, TRIALS) as uncut:
            SerialExecutor(Evaluator, 10).run(uncut)
        with session(store, "cut", config, cut) as first:
            SerialExecutor(lambda: evaluator, 10).run(first)
        with session(store, "cut", config, TRIALS) as dying:
            dying.ask()
        with session(store, "cut", config, TRIALS) as last:
            SerialExecutor(lambda: evaluator, 10).run(last)
        whole, parts = store.trials("uncut"), store.trials("cut")
    assert [(t.candidate.digest, t.metrics, t.state) for t in parts] == [
        (t.candidate.digest, t.metrics, t.state) for t in whole
    ]
    assert len(parts) > min(cut, 15), "uniform widths end earlier"
    assert all(trial.metrics["macs"] <= 0.6 * TOY.space.cost.baseline["macs"] for trial in parts)
    assert len(evaluator.ran) == len(set(evaluator.ran))
