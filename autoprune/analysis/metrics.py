"""What is known about a metric by its name: which way is better, what to call it, how to print it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autoprune.errors import ConfigError, did_you_mean
from autoprune.types import Objective

__all__ = [
    "Metric",
    "axis",
    "describe",
    "finite",
    "format_count",
    "format_difference",
    "format_value",
    "is_intermediate",
    "ordered",
    "require_known",
]


@dataclass(frozen=True)
class Metric:
    """A metric's name, its better direction, its label on an axis and the kind of number it is."""

    name: str
    label: str
    direction: str = "min"
    kind: str = "plain"
    """``fraction`` (printed in %), ``count`` (k, M, G), ``ms``, ``bytes`` or ``plain``."""


_EPOCH = "top1_epoch"

_KNOWN = {
    metric.name: metric
    for metric in (
        Metric("top1", "search-val top-1 accuracy", "max", "fraction"),
        Metric("test_top1", "test top-1 accuracy", "max", "fraction"),
        Metric("top5", "search-val top-5 accuracy", "max", "fraction"),
        Metric("test_top5", "test top-5 accuracy", "max", "fraction"),
        Metric("loss", "search-val loss"),
        Metric("test_loss", "test loss"),
        Metric("macs", "MACs", kind="count"),
        Metric("flops", "FLOPs (2 per MAC)", kind="count"),
        Metric("params", "parameters", kind="count"),
        Metric("keep_ratio", "channels kept", kind="fraction"),
        Metric("latency_ms", "latency", kind="ms"),
        Metric("size_bytes", "size", kind="bytes"),
        Metric("weight_bytes", "weights", kind="bytes"),
        Metric("peak_activation_bytes", "peak of activations", kind="bytes"),
        Metric("top1_calibrated", "search-val top-1 accuracy before fine-tuning", "max", "fraction"),
    )
}


def describe(name: str) -> Metric:
    """What is known about ``name``; an unknown metric is a plain number to be minimised.

    >>> describe("top1").direction, describe("energy_joules").direction
    ('max', 'min')
    """
    if is_intermediate(name):
        return Metric(name, f"search-val top-1 accuracy after epoch {name.removeprefix(_EPOCH)}", "max", "fraction")
    return _KNOWN.get(name) or Metric(name, name, "min", "ms" if name.endswith("_ms") else "plain")


def is_intermediate(name: str) -> bool:
    """A step on the way to a trial's result, which tables for people leave out.

    >>> [is_intermediate(name) for name in ("top1_epoch2", "top1", "top1_calibrated")]
    [True, False, False]
    """
    return re.fullmatch(rf"{_EPOCH}\d+", name) is not None


def axis(text: str) -> Objective:
    """A metric with its usual direction, or with the one written behind it.

    >>> str(axis("macs")), str(axis("energy_joules max"))
    ('macs min', 'energy_joules max')

    Raises ConfigError for anything else than one metric and an optional ``max`` or ``min``.
    """
    parts = text.split()
    if len(parts) == 1:
        return Objective(parts[0], describe(parts[0]).direction)
    if len(parts) == 2 and parts[1] in ("max", "min"):
        return Objective(parts[0], parts[1])
    raise ConfigError(
        f"axis {text!r} is not understood: expected a metric and perhaps 'max' or 'min'.",
        "Write for example 'macs' or 'top1 max'.",
    )


def require_known(metrics: Iterable[str], measured: Iterable[str]) -> None:
    """Raise ConfigError for the first metric that nothing measured."""
    known = set(measured)
    for metric in metrics:
        if metric not in known:
            raise ConfigError(f"metric {metric!r} is not measured by any trial.", did_you_mean(metric, known))


def ordered(names: Iterable[str]) -> list[str]:
    """Each name once: the known ones in their usual order, then the others by name."""
    rank = {name: number for number, name in enumerate(_KNOWN)}
    return sorted(set(names), key=lambda name: (rank.get(name, len(rank)), name))


def finite(metrics: Mapping[str, float], name: str) -> bool:
    """The metric was measured and is a finite number."""
    return math.isfinite(metrics.get(name, math.nan))


def format_count(value: float) -> str:
    """Three significant digits with k, M or G.

    >>> [format_count(n) for n in (0, 999, 1000, 136_842, 20_349_999, 999_950, 1.5e12)]
    ['0', '999', '1.00k', '137k', '20.3M', '1.00M', '1500G']
    """
    if not math.isfinite(value):
        return "-"
    magnitude = abs(value)
    if magnitude < 999.5:
        return f"{value:.0f}"
    unit, scale = next(((u, s) for u, s in (("k", 1e3), ("M", 1e6)) if magnitude < 999.5 * s), ("G", 1e9))
    scaled = magnitude / scale
    decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{value / scale:.{decimals}f}{unit}"


def format_value(name: str, value: float) -> str:
    """One value as people read it; ``-`` when it is not finite.

    >>> format_value("top1", 0.91237), format_value("params", 136842), format_value("latency_ms", 1.234)
    ('91.24 %', '137k', '1.23 ms')
    """
    if not math.isfinite(value):
        return "-"
    kind = describe(name).kind
    if kind == "fraction":
        return f"{100 * value:.2f} %"
    if kind == "count":
        return format_count(value)
    if kind == "ms":
        return f"{value:.3g} ms"
    if kind == "bytes":
        return f"{format_count(value)}B"
    return f"{value:.4g}"


def format_difference(name: str, value: float) -> str:
    """A difference of two values: fractions differ by points, everything else by its own unit.

    >>> format_difference("top1", 0.0123), format_difference("macs", 1_250_000)
    ('1.23 points', '1.25M')
    """
    if describe(name).kind == "fraction":
        return f"{100 * value:.2f} points"
    return format_value(name, value)
