"""A trial's pruned network timed beside the dense one, and what the search had predicted for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.api.stores import open_at, store_url

if TYPE_CHECKING:
    from autoprune.config.schema import SearchConfig
    from autoprune.latency.measure import Latency
    from autoprune.types import SearchRecord, Trial

__all__ = ["Predicted", "TrialLatency", "latency_of_trial"]

_METRIC = "latency_ms"


@dataclass(frozen=True)
class Predicted:
    """What the search's table said of the two networks, in ms."""

    dense_ms: float
    pruned_ms: float

    @property
    def speedup(self) -> float:
        return self.dense_ms / self.pruned_ms


@dataclass(frozen=True)
class TrialLatency:
    """``speedup`` is dense time over pruned time: above 1, pruning paid."""

    name: str
    dense: Latency
    pruned: Latency
    speedup: float
    """The median over rounds, each of which timed both."""
    speedup_low: float
    """The lower quartile."""
    speedup_high: float
    predicted: Predicted | None
    remark: str
    """Why there is no prediction, or what stands between it and the measurement; empty where nothing does."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in milliseconds."""
        measured = {"dense": self.dense, "pruned": self.pruned}
        content: dict[str, Any] = {
            kind: {
                "median_ms": found.median_ms,
                "p10_ms": found.p10_ms,
                "p90_ms": found.p90_ms,
                "min_ms": found.min_ms,
                "runs": found.runs,
                "disturbed": found.disturbed,
                "predicted_ms": None if self.predicted is None else getattr(self.predicted, f"{kind}_ms"),
            }
            for kind, found in measured.items()
        }
        return {
            "name": self.name,
            **content,
            "speedup": self.speedup,
            "speedup_quartiles": [self.speedup_low, self.speedup_high],
            "predicted_speedup": None if self.predicted is None else self.predicted.speedup,
            "remark": self.remark,
            "settings": vars(self.dense.settings),
            "device": self.dense.device,
        }


def latency_of_trial(
    name: str,
    trial: int,
    *,
    settings: Mapping[str, Any] | None = None,
    repeats: int = 50,
    store: str | None = None,
) -> TrialLatency:
    """Time the pruned network of a trial and the dense one on this machine, in turns.

    ``settings``: fields of :class:`autoprune.latency.settings.LatencySettings`; what is not given is as in the search's
    own latency, if it has one. Weights are random, and no data is read: time depends on shapes alone.
    Raises NotFound, and ConfigError where the model was one in hand.
    """
    import torch

    from autoprune.api.export_bench_networks import networks_of_trial
    from autoprune.config.loading import load_search
    from autoprune.latency.compare import measure_side_by_side

    with open_at(store_url(store), read_only=True) as opened:
        record, chosen = opened.search(name), opened.trial(name, trial)
    config = load_search(record.config)
    made_with, device = _made_with(config)
    used = _settings({**(made_with or {}), **(settings or {})})
    networks = networks_of_trial(f"{name}, trial {trial}", config.space, chosen.candidate)
    pair = {"dense": networks.dense, "pruned": networks.pruned}
    found = measure_side_by_side(pair, torch.rand((1, *networks.shape)), used, repeats=repeats)
    low, middle, high = found.ratio("dense", "pruned")
    dense, pruned = found.latencies["dense"], found.latencies["pruned"]
    predicted, remark = _predicted(record, chosen, config)
    if predicted is not None and made_with is not None and _settings(made_with) != used:
        predicted, remark = None, f"the search predicted for other settings ({_settings(made_with)})"
    if predicted is not None and device and device != dense.device:
        remark = f"predicted for another device or version: {device}"
    return TrialLatency(networks.name, dense, pruned, middle, low, high, predicted, remark)


def _settings(fields: Mapping[str, Any]) -> Any:
    from autoprune.latency.settings import LatencySettings

    return LatencySettings(**fields)


def _made_with(config: SearchConfig) -> tuple[dict[str, Any] | None, str]:
    """Settings and device of the search's predictions; None where it has none, or its table is not here."""
    from autoprune.errors import NotFound
    from autoprune.latency.files import load_table

    if config.latency is None:
        return None, ""
    if config.latency.measure is not None:
        return config.latency.measure.model_dump(exclude={"levels", "rounds"}), ""
    try:
        table = load_table(str(config.latency.table))
    except NotFound:
        return None, ""
    return dict(vars(table.settings)), table.device


def _predicted(record: SearchRecord, trial: Trial, config: SearchConfig) -> tuple[Predicted | None, str]:
    if config.latency is None:
        return None, "the search predicted no latency"
    dense, pruned = record.baseline.get(_METRIC), trial.metrics.get(_METRIC)
    if dense is None or pruned is None:
        return None, "the trial has no predicted latency"
    made_with, _ = _made_with(config)
    if made_with is None:
        remark = f"the table {config.latency.table} is not here: its settings and its device are not known"
        return Predicted(dense, pruned), remark
    return Predicted(dense, pruned), ""
