"""Searching a module in hand with a function of one's own, as a notebook does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.api.searching import SearchResult, earlier_search, is_done, output_folder, search_result
from autoprune.api.stores import open_at, store_url
from autoprune.driver.observers import Silent
from autoprune.types import Trial

if TYPE_CHECKING:
    import torch
    from torch import nn

    from autoprune.config.schema import RuleConfig, SearchConfig
    from autoprune.driver.assemble_module import PreparedModule
    from autoprune.protocols import Progress
    from autoprune.space.space import SearchSpace

__all__ = ["ModuleSearchResult", "search_module"]


@dataclass(frozen=True)
class ModuleSearchResult(SearchResult):
    """What ``search`` gives, and the way to the pruned modules."""

    prepared: PreparedModule = field(repr=False, kw_only=True)

    @property
    def space(self) -> SearchSpace:
        """The searched groups with their widths and costs."""
        return self.prepared.space

    def build(self, trial: int | Trial, model: nn.Module | None = None) -> nn.Module:
        """The pruned module of a trial (or of its number), in eval mode, BatchNorm re-estimated; yours to train.

        ``model``: weights from another module of the same architecture (an average, a later checkpoint); its channels
        are ranked anew. Raises NotFound for an unknown trial, ConfigError for another architecture.
        """
        from autoprune.api.module_assets import with_model

        if isinstance(trial, int):
            with open_at(self.store, read_only=True) as opened:
                trial = opened.trial(self.record.name, trial)
        evaluator = self.prepared.evaluator if model is None else with_model(self.prepared, model)
        return evaluator.materialise(trial.candidate)

    @property
    def store(self) -> str:
        return self.prepared.config.store


def search_module(
    model: nn.Module,
    example_input: torch.Tensor | tuple[torch.Tensor, ...],
    *,
    metric: Callable[[nn.Module], Any],
    name: str,
    objectives: Sequence[str] = ("metric max", "macs min"),
    constraints: Sequence[str] = (),
    trials: int = 100,
    calibration: Iterable[Any] | None = None,
    rules: Sequence[Mapping[str, Any] | RuleConfig] | None = None,
    criterion: str | None = None,
    controller: Mapping[str, Any] | None = None,
    executor: str | Mapping[str, Any] = "serial",
    limits: Mapping[str, Any] | None = None,
    latency: str | Path | Mapping[str, Any] | None = None,
    seed: int = 0,
    version: str = "",
    store: str | None = None,
    output: str = "results",
    progress: Progress | None = None,
) -> ModuleSearchResult:
    """Search the channel counts of ``model`` by what ``metric`` says of each pruned copy; for any kind of network.

    The same call again goes on where it stopped, or finds the search complete. ``front``, ``select`` and ``trials``
    read it by its name like any other. ``model`` itself is not changed.

    Args:
        model: the trained network, on any device.
        example_input: the argument (or a tuple of the arguments) of one call, batch first: (1, C, H, W) for images.
        metric: called with a pruned copy in eval mode; returns a number (named ``metric``) or a mapping of names to
            numbers. What it raises fails that trial, with the reason; a value that is not finite makes it DIVERGED.
        objectives, constraints: as in a launch file, over the metric's names and macs, flops, params, keep_ratio,
            weight_bytes, peak_activation_bytes, and latency_ms where ``latency`` is given.
        calibration: batches on which BatchNorm is re-estimated after slicing: each the argument of one call, or a tuple
            of the arguments. None: the statistics of the kept channels stay.
        rules: which widths are allowed, as in a search space file.
        criterion: as in a launch file; by default ``group_l2``, which needs nothing but the weights.
        controller: as in a launch file, such as ``{"kind": "random"}``.
        executor: ``serial`` (in this process), ``ray`` (model, metric and calibration must be picklable), or as in a
            launch file.
        latency: makes ``latency_ms`` a metric that objectives and constraints may name: the file of a table made with
            :func:`autoprune.latency.build.build_table`, or ``{"measure": {}}`` as in a launch file, which times the
            module here before the first trial.
        version: says which ``metric`` this is. Without one, its source does, and measurements are not shared with
            other searches.

    Raises ConfigError (a setting, or the metric fails on the full model), Conflict (the name belongs to another search,
    model or metric), NothingFeasible, StoreError, SearchAborted.
    """
    from autoprune.api.module_assets import Given, prepare_module, search_config

    given = Given.of(model, example_input, metric, calibration)
    config = search_config(
        given,
        version,
        {
            "name": name,
            "objectives": list(objectives),
            "constraints": list(constraints),
            "executor": {"kind": executor} if isinstance(executor, str) else dict(executor),
            "limits": {"trials": trials, **(limits or {})},
            "seed": seed,
            "output": output,
            "store": store_url(store),
            **_weights(criterion, controller),
            **({} if controller is None else {"controller": dict(controller)}),
            **({} if latency is None else {"latency": _latency(latency)}),
        },
        rules,
    )
    shown = progress or Silent()
    with open_at(config.store) as opened:
        earlier = earlier_search(opened, config)
        prepared = prepare_module(config, given, shown)
        reused = earlier is not None and is_done(earlier, config) and (output_folder(config) / "report.html").exists()
        if not reused:
            _run(opened, prepared, shown)
        found = search_result(opened, config, reused=reused)
    return ModuleSearchResult(**vars(found), prepared=prepared)


def _weights(criterion: str | None, controller: Mapping[str, Any] | None) -> dict[str, Any]:
    """Nothing for MetaPruning, whose weights would come from a hypernetwork: the configuration refuses it."""
    if criterion is None and (controller or {}).get("kind") == "metapruning":
        return {}
    return {"evaluator": {"weights": {"kind": "inherit", "criterion": criterion or "group_l2"}}}


def _latency(given: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    return {"table": str(given)} if isinstance(given, str | Path) else dict(given)


def _run(store: Any, prepared: PreparedModule, progress: Progress) -> None:
    from autoprune.api.reporting import write_stored
    from autoprune.driver.running import run_session

    config: SearchConfig = prepared.config
    run_session(store, prepared, progress)
    write_stored(store, store.search(config.name), output_folder(config))
