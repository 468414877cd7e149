"""From a controller's configuration to the controller; a library is imported only when its controller is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.config.controllers import (
    AmcControllerConfig,
    ControllerConfig,
    EagleEyeControllerConfig,
    EvolutionControllerConfig,
    NetAdaptControllerConfig,
    OptunaControllerConfig,
    RandomControllerConfig,
    RegressionControllerConfig,
)
from autoprune.controllers.eagleeye import EagleEyeController
from autoprune.controllers.evolution import EvolutionController
from autoprune.controllers.netadapt import NetAdaptController
from autoprune.controllers.random import RandomController
from autoprune.controllers.regression import RegressionController
from autoprune.controllers.uniform import UniformController
from autoprune.protocols import Controller
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Objective

__all__ = ["make", "names"]


def names() -> list[str]:
    """The values of ``controller.kind``."""
    return ["amc", "eagleeye", "evolution", "netadapt", "optuna", "random", "regression", "uniform"]


def make(
    config: ControllerConfig,
    *,
    space: SearchSpace,
    decoder: Decoder,
    objectives: Sequence[Objective],
    trials: int,
    seed: int,
) -> Controller:
    """The controller that ``config`` describes. What it proposes is decoded: feasible, and run as it stands.

    ``trials`` is how many the search may run; only a grid and schedules over the whole search depend on it.
    """
    if isinstance(config, OptunaControllerConfig):
        from autoprune.controllers.optuna import OptunaController

        return OptunaController(config, space=space, decoder=decoder, objectives=objectives, seed=seed)
    if isinstance(config, AmcControllerConfig):
        from autoprune.controllers.amc import AmcController

        return AmcController(config, space=space, decoder=decoder, objectives=objectives, trials=trials, seed=seed)
    if isinstance(config, RandomControllerConfig):
        return RandomController(
            space=space, decoder=decoder, objectives=objectives, seed=seed, seed_uniform=config.seed_uniform
        )
    if isinstance(config, RegressionControllerConfig):
        return RegressionController(config, space=space, decoder=decoder, objectives=objectives, seed=seed)
    if isinstance(config, EvolutionControllerConfig):
        return EvolutionController(config, space=space, decoder=decoder, objectives=objectives, seed=seed)
    if isinstance(config, NetAdaptControllerConfig):
        return NetAdaptController(config, space=space, decoder=decoder, objectives=objectives, trials=trials)
    if isinstance(config, EagleEyeControllerConfig):
        return EagleEyeController(config, space=space, decoder=decoder, seed=seed)
    return UniformController(space=space, decoder=decoder, trials=trials)
