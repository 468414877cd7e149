"""The kinds of ``controller:`` in a launch file: who proposes candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from autoprune.config.strict import Strict
from autoprune.errors import did_you_mean

__all__ = [
    "AmcControllerConfig",
    "ControllerConfig",
    "EagleEyeControllerConfig",
    "EvolutionControllerConfig",
    "NetAdaptControllerConfig",
    "OptunaControllerConfig",
    "RandomControllerConfig",
    "RegressionControllerConfig",
    "UniformControllerConfig",
]


def _without_defaults(content: dict[str, Any], config: Strict, keys: Sequence[str]) -> dict[str, Any]:
    """A serialised configuration without those of the keys that have their default."""
    fields = type(config).model_fields
    unset = [key for key in keys if getattr(config, key) == fields[key].default]
    return {key: value for key, value in content.items() if key not in unset}


class UniformControllerConfig(Strict):
    """One keep_ratio for all groups, from full to the smallest feasible in even steps of MACs."""

    kind: Literal["uniform"] = "uniform"


class RandomControllerConfig(Strict):
    """Random widths decoded to a cost drawn uniformly from the feasible range."""

    kind: Literal["random"] = "random"
    seed_uniform: int = Field(0, ge=0)
    """The first so many proposals are uniform widths."""


_SAMPLER_KEYS = {
    "population": ("nsga2", "nsga3", "cmaes"),
    "startup_trials": ("tpe", "gp"),
    "window": ("tpe", "gp"),
    "history": ("tpe", "gp"),
}


class OptunaControllerConfig(Strict):
    """A sampler of Optuna, in memory; the store is the only record."""

    kind: Literal["optuna"] = "optuna"
    sampler: Literal["tpe", "nsga2", "nsga3", "cmaes", "gp", "qmc", "random"] = "tpe"
    """``cmaes`` follows one objective, the others up to three."""
    population: int = Field(20, ge=2)
    """``nsga2``, ``nsga3``, ``cmaes`` (10 there, unless given): trials of a generation. What else runs at the same time
    is measured and counts for the front, but later generations do not descend from it."""
    startup_trials: int = Field(16, ge=0)
    """``tpe``, ``gp``: random proposals before the model takes over."""
    window: int | None = Field(None, ge=8)
    """``tpe``, ``gp``: how many finished trials the model is fitted to, half of them the best, half the latest of the
    others; null: 250 (``tpe``), 40 (``gp``)."""
    history: int = Field(2000, ge=8)
    """``tpe``, ``gp``: how many finished trials are remembered, from which the window is chosen: the best half and the
    latest of the others. Searches of no more trials forget nothing; a longer one costs no more a proposal."""
    seed_uniform: int = Field(5, ge=0)
    """The first so many proposals are uniform widths."""

    @model_validator(mode="before")
    @classmethod
    def _known_sampler(cls, value: Any) -> Any:
        sampler = value.get("sampler", "tpe") if isinstance(value, dict) else "tpe"
        samplers = get_args(cls.model_fields["sampler"].annotation)
        if isinstance(sampler, str) and sampler not in samplers:
            raise ValueError(f"there is no sampler {sampler!r}. {did_you_mean(sampler, samplers)}")
        return {"population": 10, **value} if sampler == "cmaes" else value

    @model_validator(mode="after")
    def _keys_of_the_sampler(self) -> OptunaControllerConfig:
        for key, owners in _SAMPLER_KEYS.items():
            if self.sampler not in owners and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is a key of {' and '.join(owners)}; sampler {self.sampler} has none")
        if self.window is not None and self.window > self.history:
            raise ValueError(f"history must be at least the window, got {self.history} and a window of {self.window}")
        return self

    @model_serializer(mode="wrap")
    def _without_new_keys(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Searches from before there was a window or a history keep their digest."""
        return _without_defaults(serialise(self), self, ("window", "history"))


_PRESETS: dict[str, dict[str, Any]] = {
    "metapruning": {
        "population": 50,
        "parents": 10,
        "mutation": 0.1,
        "crossover": 0.5,
        "mutate_crossed": False,
        "genes": "widths",
        "seed_uniform": 0,
    }
}


class EvolutionControllerConfig(Strict):
    """Steady-state evolution within the budgets; non-dominated sorting where there are several objectives."""

    kind: Literal["evolution", "metapruning"] = "evolution"
    """``metapruning`` is short for ``evolution`` with that preset, and weights of a hypernetwork unless others are
    given."""
    preset: Literal["metapruning"] | None = None
    """``metapruning``: the paper's constants (population 50, parents 10, mutation 0.1 a gene, half of the children
    crossed, random start, width indices as genes); keys given beside it win."""
    population: int = Field(20, ge=2)
    """The best so many of everything measured survive; the first so many proposals are drawn at random. With more
    trials at once, more are random."""
    parents: int = Field(5, ge=2)
    """Children descend from the best so many of the population."""
    mutation: float = Field(0.1, gt=0, le=1)
    """Probability that a gene changes; one always does."""
    crossover: float = Field(0.5, ge=0, le=1)
    """Share of the children that mix two parents, gene by gene; the others are mutants of one."""
    mutate_crossed: bool = True
    """Whether crossed children are mutated as well."""
    genes: Literal["proportions", "widths"] = "proportions"
    """``proportions``: of the widths, and their share of the cost; ``widths``: positions among the allowed widths."""
    survival: Literal["crowding", "hypervolume"] = "hypervolume"
    """What tells points of one front apart: crowding distance, or the area that each adds (with
    three objectives always crowding distance)."""
    seed_uniform: int = Field(5, ge=0)
    """The first so many proposals are uniform widths."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("kind") == "metapruning":
            value = {**value, "kind": "evolution", "preset": "metapruning"}
        preset = value.get("preset") if isinstance(value, dict) else None
        return {**_PRESETS[preset], **value} if isinstance(preset, str) and preset in _PRESETS else value

    @model_validator(mode="after")
    def _fits(self) -> EvolutionControllerConfig:
        if self.parents > self.population:
            raise ValueError(f"parents must be at most the population, got {self.parents} of {self.population}")
        return self


class NetAdaptControllerConfig(Strict):
    """Greedy steps down: each iteration tries a cut in every group and keeps the one that costs least."""

    kind: Literal["netadapt"] = "netadapt"
    step: float | None = Field(None, gt=0, lt=1)
    """First iteration's reduction, as a share of the way down; null: as large as ``limits.trials`` demand to get to the
    end, at one trial a group and iteration. A walk that has arrived begins anew with half the step."""
    decay: float = Field(0.96, gt=0, le=1)
    """Each iteration's reduction is so many times the one before, but never below a quarter of the first."""
    quorum: float = Field(0.75, gt=0, le=1)
    """An iteration may end once this share of its trials has, when workers would otherwise wait."""


class EagleEyeControllerConfig(Strict):
    """Random widths within a narrow band below the budget."""

    kind: Literal["eagleeye"] = "eagleeye"
    tolerance: float = Field(0.005, gt=0, lt=1)
    """Width of the band as a share of the budget."""
    budget: float = Field(0.5, gt=0, le=1)
    """Share of the full model's MACs that is the budget where the search has no upper bound of its own."""


class AmcControllerConfig(Strict):
    """Reinforcement learning (DDPG): an agent walks through the groups and decides how much each keeps."""

    kind: Literal["amc"] = "amc"
    mode: Literal["fixed", "paper"] = "fixed"
    """``paper``: as in the released code, with its known defects; ``fixed``: without them, with actions relative to the
    budget and the reward split over the steps."""
    episodes: int | None = Field(None, ge=1)
    """Trials over which exploration fades; null: ``limits.trials`` when the search begins."""
    warmup: int | None = Field(None, ge=1)
    """Episodes of random actions; null: 100 (``paper``), or a quarter of the episodes, at most 10 (``fixed``)."""
    hidden: int | None = Field(None, ge=1)
    """Units of the two hidden layers; null: 300 (``paper``) or 32 (``fixed``)."""
    updates: int | None = Field(None, ge=0)
    """Gradient steps after an episode; null: one a group (``paper``), or eight (``fixed``)."""
    seed_uniform: int = Field(5, ge=0)
    """``fixed``: the first so many proposals are uniform widths."""


class RegressionControllerConfig(Strict):
    """Thompson sampling on a regression of what is measured; for searches of some dozen trials."""

    kind: Literal["regression"] = "regression"
    seed_uniform: int = Field(4, ge=0)
    exploration: float = Field(0.3, ge=0)
    """How far from the most likely function one is drawn, as a multiple of what the trials leave uncertain."""
    history: int = Field(2000, ge=8)
    """How many finished trials the regression is fitted to: the best half of so many, and the latest of the others."""

    @model_serializer(mode="wrap")
    def _without_new_keys(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Searches from before there was a history keep their digest."""
        return _without_defaults(serialise(self), self, ("history",))


def _serves(config: Any, info: ValidationInfo) -> Any:
    """That the controller can follow the search's objectives, which are validated before it."""
    objectives = (info.data or {}).get("objectives", ())
    if getattr(config, "sampler", None) == "cmaes" and len(objectives) > 1:
        raise ValueError(
            f"sampler cmaes follows one objective, got {len(objectives)} ({', '.join(objectives)}). Make the others "
            "constraints ('macs <= 0.5 * baseline'), or take nsga2, nsga3, tpe, gp, qmc or random"
        )
    return config


ControllerConfig = Annotated[
    UniformControllerConfig
    | RandomControllerConfig
    | OptunaControllerConfig
    | RegressionControllerConfig
    | EvolutionControllerConfig
    | NetAdaptControllerConfig
    | EagleEyeControllerConfig
    | AmcControllerConfig,
    Field(discriminator="kind"),
    AfterValidator(_serves),
]
