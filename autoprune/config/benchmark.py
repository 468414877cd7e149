"""A benchmark file: which controllers are compared, on which space and budgets, how often."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from pydantic import Field, field_validator, model_validator

from autoprune.config.controllers import (
    ControllerConfig,
    OptunaControllerConfig,
    RandomControllerConfig,
    UniformControllerConfig,
)
from autoprune.config.evaluation import WeightsConfig, with_weights
from autoprune.config.expressions import parse_constraint, parse_objective
from autoprune.config.schema import EvaluatorConfig, SearchConfig, SpaceConfig
from autoprune.config.strict import Strict
from autoprune.errors import ConfigError, did_you_mean
from autoprune.types import Constraint, Objective

__all__ = ["NAME", "ArmConfig", "BenchmarkConfig", "SettingConfig"]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_COSTS = ("macs", "flops", "params", "keep_ratio")


class ArmConfig(Strict):
    """One controller of the comparison."""

    controller: ControllerConfig
    weights: WeightsConfig | None = None
    """Where this arm's candidates get their weights; null: as ``evaluator.weights`` says. An arm with others searches
    by them, and is judged by the candidates of its front measured once more as everybody's."""
    settings: tuple[str, ...] | None = None
    """The settings that it takes part in; null: all. CMA-ES, for one, follows a single objective."""

    @model_validator(mode="before")
    @classmethod
    def _metapruning(cls, value: Any) -> Any:
        return with_weights(value)


class SettingConfig(Strict):
    """One problem that all arms solve: objectives and budgets."""

    name: str = Field(pattern=NAME)
    objectives: tuple[str, ...] = ("top1 max",)
    constraints: tuple[str, ...] = ()

    @field_validator("objectives")
    @classmethod
    def _objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parsed = [_objective(text) for text in value]
        if Objective("top1", "max") not in parsed:
            raise ValueError(f"'top1 max' must be among the objectives, got {', '.join(value) or 'none'}")
        twice = [metric for metric, count in Counter(item.metric for item in parsed).items() if count > 1]
        if twice:
            raise ValueError(f"each metric may be an objective once, got {twice[0]} twice")
        if len(parsed) > 3:
            raise ValueError(f"one to three objectives are supported, got {len(parsed)}")
        return value

    @field_validator("constraints")
    @classmethod
    def _constraints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                bounds = parse_constraint(text)
            except ConfigError as error:
                raise ValueError(str(error)) from None
            for bound in bounds:
                if bound.metric not in _COSTS:
                    raise ValueError(f"a budget bounds {_listed(_COSTS)}, got {bound.metric!r}")
        return value

    def parsed_objectives(self) -> tuple[Objective, ...]:
        return tuple(parse_objective(text) for text in self.objectives)

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        return tuple(bound for text in self.constraints for bound in parse_constraint(text))


class BenchmarkConfig(Strict):
    """Every arm solves every setting with every seed, with the same number of evaluations."""

    name: str = Field(pattern=NAME)
    space: SpaceConfig
    evaluator: EvaluatorConfig = EvaluatorConfig()
    arms: dict[str, ArmConfig]
    """``random`` and ``uniform`` take part whether they are named or not."""
    settings: tuple[SettingConfig, ...] = Field(min_length=1)
    trials: int = Field(ge=1)
    """Candidates that one run of an arm may propose."""
    seeds: int = Field(5, ge=2)
    """Runs of each arm and setting, with the controller's seed 0, 1, ...; the evaluation's seed is always ``seed``."""
    parallel: int = Field(1, ge=1)
    """Workers of a simulated search: this many candidates are measured at a time."""
    test_images: int = Field(0, ge=0)
    """Test images on which the best candidate of each run is scored once, at the end; 0: none."""
    table: str | None = None
    """The recorded candidates, ``.jsonl.gz``; null: ``<output>/<name>/candidates.jsonl.gz``."""
    output: str = "results"
    """Tables and figures go to ``<output>/<name>/``."""
    seed: int = Field(0, ge=0)
    """Of the evaluation: which images calibrate and score."""

    @field_validator("arms")
    @classmethod
    def _with_yardsticks(cls, value: dict[str, ArmConfig]) -> dict[str, ArmConfig]:
        for name in value:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"an arm's name is made of letters, digits and ._-, got {name!r}")
        yardsticks = {"random": RandomControllerConfig(), "uniform": UniformControllerConfig()}
        for name, config in yardsticks.items():
            given = value.get(name)
            if given is not None and (not _is_yardstick(name, given.controller) or given != _plain(given)):
                raise ValueError(
                    f"the arm {name!r} is what others are compared with: its kind must be {name}, in all settings "
                    "and by everybody's weights"
                )
            value = value if given is not None else {name: ArmConfig(controller=config), **value}
        return value

    @model_validator(mode="after")
    def _names(self) -> BenchmarkConfig:
        twice = [name for name, count in Counter(item.name for item in self.settings).items() if count > 1]
        if twice:
            raise ValueError(f"two settings are named {twice[0]!r}")
        known = [item.name for item in self.settings]
        for arm, config in self.arms.items():
            unknown = [name for name in config.settings or () if name not in known]
            if unknown:
                raise ValueError(f"arm {arm!r}: there is no setting {unknown[0]!r}. {did_you_mean(unknown[0], known)}")
        return self

    def arms_in(self, setting: SettingConfig) -> list[str]:
        """Names of the arms that take part."""
        return [name for name, arm in self.arms.items() if arm.settings is None or setting.name in arm.settings]

    def search(self, setting: SettingConfig, weights: WeightsConfig | None = None) -> SearchConfig:
        """The search that one run of this setting is, but for the controller and its seed."""
        evaluator = self.evaluator if weights is None else self.evaluator.model_copy(update={"weights": weights})
        return SearchConfig.model_validate(
            {
                "name": f"{self.name}-{setting.name}"[:100],
                "space": self.space,
                "objectives": setting.objectives,
                "constraints": setting.constraints,
                "evaluator": evaluator,
                "limits": {"trials": self.trials},
                "seed": self.seed,
            }
        )


def _plain(arm: ArmConfig) -> ArmConfig:
    return ArmConfig(controller=arm.controller)


def _is_yardstick(name: str, config: ControllerConfig) -> bool:
    return config.kind == name or (
        name == "random" and isinstance(config, OptunaControllerConfig) and config.sampler == "random"
    )


def _objective(text: str) -> Objective:
    try:
        parsed = parse_objective(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if parsed != Objective("top1", "max") and (parsed.metric not in _COSTS or parsed.direction != "min"):
        raise ValueError(f"objectives are 'top1 max' and {_listed(_COSTS)} min, got {text!r}")
    return parsed


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
