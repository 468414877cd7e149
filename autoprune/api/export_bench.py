"""Is the pruned model faster? Dense and pruned network side by side in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.api.stores import open_at, store_url
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.exporters.bench import Timing

__all__ = ["ExportBench", "bench_export"]


@dataclass(frozen=True)
class ExportBench:
    """What was measured. ``speedup`` is dense time over pruned time: above 1, pruning paid."""

    name: str
    dense: Timing
    pruned: Timing
    speedup: float
    """The median over the repeats, each of which timed both."""
    speedup_low: float
    """The lower quartile."""
    speedup_high: float
    macs: Mapping[str, float]
    """Of ``dense`` and ``pruned``, one image."""
    settings: Mapping[str, int]
    """``batch``, ``threads``, ``warmup``, ``repeats``."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Processor, versions, and the clock: processor time of the one thread, or wall time."""

    @property
    def faster(self) -> bool:
        """Three quarters of the repeats found the pruned model faster."""
        return self.speedup_low > 1

    @property
    def verdict(self) -> str:
        """One sentence."""
        share = f"{100 * self.macs['pruned'] / self.macs['dense']:.1f} % of the MACs"
        if self.faster:
            return f"The pruned model is {self.speedup:.2f} times as fast with {share}."
        return (
            f"The pruned model is NOT faster (speed-up {self.speedup:.2f}) although it has {share}: at this size other "
            "costs than MACs decide, or its widths suit the processor badly (try rules with multiple: 8 or 16)."
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in milliseconds a call."""
        timings = {
            kind: {
                "median_ms": timing.median_ms,
                "spread_ms": timing.spread_ms,
                "min_ms": float(timing.samples_ms.min()),
                "macs": self.macs[kind],
            }
            for kind, timing in (("dense", self.dense), ("pruned", self.pruned))
        }
        return {
            "name": self.name,
            **timings,
            "speedup": self.speedup,
            "speedup_quartiles": [self.speedup_low, self.speedup_high],
            "faster": self.faster,
            "verdict": self.verdict,
            "settings": dict(self.settings),
            "facts": dict(self.facts),
        }


def bench_export(
    target: str | Path,
    trial: int | None = None,
    *,
    batch: int = 1,
    threads: int = 1,
    warmup: int = 10,
    repeats: int = 30,
    store: str | None = None,
) -> ExportBench:
    """Time the dense and the pruned network of a trial (a search's name and a number), or of an exported folder.

    Latency depends on shapes alone, so neither data nor trained weights are needed: for a trial the network is built
    with random weights. Both become ONNX of one batch size.

    Raises ConfigError when a number is out of range, a package is missing or the folder cannot be compared, NotFound.
    """
    for key, value, least in (("batch", batch, 1), ("threads", threads, 1), ("repeats", repeats, 1)):
        if value < least:
            raise ConfigError(f"{key} must be at least {least}, got {value}.")
    from autoprune.api.export_bench_networks import measure, networks_of_folder, networks_of_trial

    if trial is None:
        networks = networks_of_folder(Path(target))
    else:
        from autoprune.config.loading import load_search

        with open_at(store_url(store), read_only=True) as opened:
            config = load_search(opened.search(str(target)).config)
            candidate = opened.trial(str(target), trial).candidate
        networks = networks_of_trial(f"{target}, trial {trial}", config.space, candidate)
    return measure(networks, batch=batch, threads=threads, warmup=warmup, repeats=repeats)
