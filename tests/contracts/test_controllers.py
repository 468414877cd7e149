"""Every registered controller keeps the contract; and what is particular to each."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from autoprune.config.controllers import RegressionControllerConfig
from autoprune.config.schema import (
    AmcControllerConfig,
    ControllerConfig,
    EagleEyeControllerConfig,
    EvolutionControllerConfig,
    NetAdaptControllerConfig,
    OptunaControllerConfig,
    RandomControllerConfig,
    UniformControllerConfig,
)
from autoprune.controllers import make, names
from autoprune.controllers.uniform import uniform_widths
from autoprune.protocols import Controller
from autoprune.space import Decoder
from autoprune.testing import ControllerContract, ToySearch, toy_space
from autoprune.testing.controllers import drive
from autoprune.types import Constraint, Objective, TrialState


def controller_of(config: ControllerConfig, search: ToySearch, *, trials: int = 24, seed: int = 0) -> Controller:
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    return make(config, space=search.space, decoder=decoder, objectives=search.objectives, trials=trials, seed=seed)


class Registered(ControllerContract):
    config: ControllerConfig

    def make(self, search: ToySearch, decoder: Decoder, seed: int) -> Controller:
        return make(
            self.config,
            space=search.space,
            decoder=decoder,
            objectives=search.objectives,
            trials=self.trials,
            seed=seed,
        )


class TestUniform(Registered):
    config = UniformControllerConfig()
    seeded = False


class TestRandom(Registered):
    config = RandomControllerConfig()


class TestRegression(Registered):
    config = RegressionControllerConfig()


class TestRegressionThatForgets(Registered):
    config = RegressionControllerConfig(history=8)
    trials = 12


class TestRandomAfterUniform(Registered):
    config = RandomControllerConfig(seed_uniform=5)


class TestTpe(Registered):
    config = OptunaControllerConfig(sampler="tpe", startup_trials=8, seed_uniform=3)


class TestTpeThatForgets(Registered):
    config = OptunaControllerConfig(sampler="tpe", startup_trials=4, seed_uniform=3, window=8, history=8)
    trials = 12


class TestNsga2(Registered):
    config = OptunaControllerConfig(sampler="nsga2", population=6, seed_uniform=3)


class TestNsga3(Registered):
    config = OptunaControllerConfig(sampler="nsga3", population=6, seed_uniform=3)


class TestGp(Registered):
    config = OptunaControllerConfig(sampler="gp", startup_trials=15, seed_uniform=3)


class TestCmaEs(ControllerContract):
    """Its searches have one objective."""

    def make(self, search: ToySearch, decoder: Decoder, seed: int) -> Controller:
        config = OptunaControllerConfig(sampler="cmaes", population=6, seed_uniform=3)
        one = search.objectives[:1]
        return make(config, space=search.space, decoder=decoder, objectives=one, trials=self.trials, seed=seed)


class TestQmc(Registered):
    config = OptunaControllerConfig(sampler="qmc", seed_uniform=3)


class TestOptunaRandom(Registered):
    config = OptunaControllerConfig(sampler="random", seed_uniform=0)


class TestEvolution(Registered):
    config = EvolutionControllerConfig(population=6, parents=4, survival="crowding", seed_uniform=2)


class TestEvolutionByHypervolume(Registered):
    config = EvolutionControllerConfig(population=6, parents=4, survival="hypervolume", seed_uniform=0)


class TestMetaPruningsEvolution(Registered):
    config = EvolutionControllerConfig.model_validate({"preset": "metapruning", "population": 6, "parents": 3})


class TestEagleEye(Registered):
    config = EagleEyeControllerConfig()


class TestNetAdapt(Registered):
    config = NetAdaptControllerConfig()
    seeded = False


class TestAmc(Registered):
    config = AmcControllerConfig(warmup=5, hidden=16, seed_uniform=2)


class TestAmcAsReleased(Registered):
    config = AmcControllerConfig(mode="paper", warmup=5, hidden=16)


def test_every_kind_is_under_contract() -> None:
    kinds = {cls.config.kind for cls in Registered.__subclasses__()}
    samplers = {cls.config.sampler for cls in Registered.__subclasses__() if cls.config.kind == "optuna"}
    assert kinds == set(names())
    assert samplers | {"cmaes"} == set(get_args(OptunaControllerConfig.model_fields["sampler"].annotation))


# --- uniform ---------------------------------------------------------------------------------------------------------


def test_uniform_goes_from_full_to_minimum_in_even_steps_of_macs() -> None:
    search = ToySearch(toy_space((64, 64, 128, 128), multiple=1, floor=0.1))
    trials = drive(controller_of(UniformControllerConfig(), search, trials=11), search, 0, 100)
    assert trials[0].candidate == search.space.full()
    assert trials[-1].candidate == search.space.minimum()
    macs = np.array([trial.metrics["macs"] for trial in trials])
    assert len(trials) == 11
    assert np.allclose(np.diff(macs), (macs[-1] - macs[0]) / 10, rtol=0.35)
    for trial in trials:
        ratios = [trial.candidate.widths[item.name] / item.channels for item in search.space.dimensions]
        assert max(ratios) - min(ratios) < 1 / 64 + 1e-9


def test_uniform_skips_duplicates_and_ends() -> None:
    search = ToySearch(toy_space((8, 8), multiple=4, floor=0.5))
    controller = controller_of(UniformControllerConfig(), search, trials=50)
    trials = drive(controller, search, 0, 50)
    assert [dict(trial.candidate.widths) for trial in trials] == [{"conv0": 8, "conv1": 8}, {"conv0": 4, "conv1": 4}]
    assert controller.exhausted
    assert controller.ask(2) is None


def test_uniform_stays_below_the_budget() -> None:
    search = ToySearch(toy_space(), constraints=(Constraint("macs", "<=", 0.5, relative=True),))
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    for candidate in uniform_widths(search.space, decoder, 10):
        keep = search.space.vector(candidate) / search.space.vector(search.space.full())
        assert keep.max() - keep.min() <= 0.25  # multiples of 4 out of 16: uniform up to rounding
        assert search.space.cost.measure(candidate)["macs"] <= 0.5 * search.space.cost.baseline["macs"]


# --- random ----------------------------------------------------------------------------------------------------------


def test_random_covers_the_costs_evenly() -> None:
    """Deciles of the MACs of 300 draws lie where those of a uniform distribution do; plain draws concentrate."""
    search = ToySearch(toy_space((32,) * 16, multiple=2, floor=0.1))
    trials = drive(controller_of(RandomControllerConfig(), search), search, 0, 300)
    macs = np.array([trial.metrics["macs"] for trial in trials])
    low, high = search.measure(search.space.minimum())["macs"], search.space.cost.baseline["macs"]
    shares = np.quantile((macs - low) / (high - low), [0.1, 0.3, 0.5, 0.7, 0.9])
    assert shares == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=0.08)


def test_random_does_not_repeat_itself_while_something_is_new() -> None:
    search = ToySearch(toy_space((8, 8, 8), multiple=2, floor=0.25))
    trials = drive(controller_of(RandomControllerConfig(), search), search, 0, 30)
    assert len({trial.candidate.digest for trial in trials}) >= 27


# --- optuna ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        OptunaControllerConfig(sampler="tpe"),
        OptunaControllerConfig(sampler="nsga2", population=15),
        OptunaControllerConfig(sampler="cmaes"),
    ],
    ids=lambda config: str(config.sampler),
)
def test_search_beats_random_on_a_toy(config: OptunaControllerConfig) -> None:
    """The best accuracy at a fixed budget after 60 trials, median of three seeds."""
    search = ToySearch(
        toy_space((32,) * 6, multiple=2, floor=0.1),
        objectives=(Objective("top1", "max"),),
        constraints=(Constraint("macs", "<=", 0.3, relative=True),),
    )

    def best(config: ControllerConfig) -> float:
        runs = [drive(controller_of(config, search, seed=seed), search, 0, 60) for seed in range(3)]
        return float(np.median([max(trial.metrics["top1"] for trial in run) for run in runs]))

    assert best(config) > best(RandomControllerConfig()) + 0.005


def test_nsga2_generation_travels_in_the_note() -> None:
    search = ToySearch(toy_space())
    config = OptunaControllerConfig(sampler="nsga2", population=4, seed_uniform=0)
    trials = drive(controller_of(config, search), search, 0, 13)
    generations = [next(iter(trial.note["generation"].values())) for trial in trials]  # type: ignore[attr-defined]
    assert generations == [0] * 4 + [1] * 4 + [2] * 4 + [3]


def test_infeasible_region_is_avoided() -> None:
    """All candidates with a wide first group are infeasible: the sampler learns to leave them alone."""
    search = ToySearch(toy_space((32,) * 4, multiple=2, floor=0.1))
    controller = controller_of(OptunaControllerConfig(seed_uniform=0), search)

    def wide(trial):  # type: ignore[no-untyped-def]
        bad = trial.candidate.widths["conv0"] > 16
        return replace(trial, state=TrialState.INFEASIBLE, metrics={}) if bad else trial

    trials = drive(controller, search, 0, 60, wide)
    early = np.mean([trial.state is TrialState.INFEASIBLE for trial in trials[:16]])
    late = np.mean([trial.state is TrialState.INFEASIBLE for trial in trials[30:]])
    assert late < early / 2


def test_optuna_is_quiet_and_leaves_the_log_level_alone(caplog: pytest.LogCaptureFixture) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    logging.getLogger("optuna").addHandler(caplog.handler)
    try:
        search = ToySearch(toy_space())
        drive(controller_of(OptunaControllerConfig(), search), search, 0, 3)
    finally:
        logging.getLogger("optuna").removeHandler(caplog.handler)
    assert caplog.records == []
    assert optuna.logging.get_verbosity() == before


def test_optuna_is_imported_only_when_asked_for() -> None:
    code = "import sys, autoprune.controllers; print('optuna' in sys.modules, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split() == ["False", "False"]
