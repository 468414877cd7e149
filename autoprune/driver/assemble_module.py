"""Composition for ``search_module``: a module, its groups and a user's metric instead of configuration and data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from autoprune.config.schema import FunctionData, RayExecutorConfig, SearchConfig
from autoprune.errors import ConfigError, SearchAborted
from autoprune.evaluators.custom import FunctionEvaluator, ModuleAssets, make_function_evaluator
from autoprune.latency.predictor import LatencyModel
from autoprune.space.decoding import Decoder
from autoprune.space.space import SearchSpace

if TYPE_CHECKING:
    from autoprune.protocols import Executor

__all__ = ["PreparedModule"]


@dataclass(frozen=True)
class PreparedModule:
    """Everything of such a search that does not change while it runs."""

    config: SearchConfig
    space: SearchSpace
    decoder: Decoder
    assets: ModuleAssets
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Groups that another criterion than the configured one ranks, and why."""

    @property
    def remarks(self) -> dict[str, object]:
        """What every trial's note says."""
        return {"ranked_otherwise": dict(self.replaced)} if self.replaced else {}

    @property
    def evaluation_digest(self) -> str:
        """Of module, function, version and calibration batches, and the latency table if any.

        Without a version it holds the search's name as well: two functions with the same text may read other data,
        so their measurements are not shared between searches.
        """
        data = self.config.space.data
        shared = isinstance(data, FunctionData) and data.version
        latency = "".join(f" {item.digest}" for item in self.space.cost.extras if isinstance(item, LatencyModel))
        text = f"{self.config.evaluation_digest()} {'' if shared else self.config.name}{latency}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def evaluator(self) -> FunctionEvaluator:
        return make_function_evaluator(self.assets)

    def measure_baseline(self) -> dict[str, float]:
        """Metrics of the full module, measured like a trial.

        Raises ConfigError when the function fails on it or does not return what the objectives and constraints name,
        SearchAborted when a metric is not finite.
        """
        full = self.space.full()
        try:
            *_, last = self.evaluator.evaluate(full)
        except Exception as error:
            reason = str(error).strip() or "no message"
            raise ConfigError(
                f"metric: the function fails on the unpruned module: {type(error).__name__}: {reason}",
                "Try it by hand: metric(model.eval()) must return a number or a mapping of names to numbers.",
            ) from error
        metrics = {**last.metrics, **self.space.cost.measure(full)}
        self._require_named(metrics)
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            listed = ", ".join(f"{name} = {metrics[name]}" for name in bad)
            raise SearchAborted(
                f"the unpruned module gives {listed}: expected finite numbers.",
                "Check the function and its data.",
            )
        return metrics

    def make_executor(self) -> Executor:
        """Serial, or Ray where everything can be pickled. Raises ConfigError where it cannot."""
        config, limits = self.config, self.config.limits
        if isinstance(config.executor, RayExecutorConfig):
            from autoprune.executors.ray_pickling import require_picklable
            from autoprune.executors.ray_tune import RayTuneExecutor

            require_picklable(metric=self.assets.metric, model=self.assets.module, calibration=self.assets.calibration)
            return RayTuneExecutor(
                config.executor,
                self.assets,
                make_function_evaluator,
                limits.trial_seconds,
                trial_memory=limits.trial_memory_bytes,
            )
        from autoprune.executors.serial import SerialExecutor

        return SerialExecutor(lambda: self.evaluator, limits.trial_seconds, limits.trial_memory_bytes)

    def _require_named(self, metrics: dict[str, float]) -> None:
        objectives, constraints = self.config.parsed_objectives(), self.config.parsed_constraints()
        for name in [*(item.metric for item in objectives), *(item.metric for item in constraints)]:
            if name not in metrics:
                raise ConfigError(
                    f"objectives and constraints name {name!r}, which is not measured; "
                    f"measured are {', '.join(sorted(metrics))}.",
                    "A plain number is called 'metric'; return a mapping such as {'miou': 0.7} to name it.",
                )
