"""Numbers as people read them, for tables and progress lines."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from autoprune.analysis.metrics import describe, finite, format_count, format_value

__all__ = ["format_count", "format_duration", "format_metric", "format_time", "format_value"]


def format_metric(name: str, metrics: Mapping[str, float], baseline: Mapping[str, float] | None = None) -> str:
    """A metric of a trial; costs with their share of the baseline behind them.

    >>> format_metric("macs", {"macs": 20.3e6}, {"macs": 40.8e6})
    '20.3M (49.8 %)'
    >>> format_metric("top1", {"top1": 0.9124}), format_metric("loss", {})
    ('91.24 %', '-')
    """
    value = metrics.get(name, math.nan)
    text = format_value(name, value)
    if describe(name).kind not in ("count", "ms", "bytes") or baseline is None or not finite(metrics, name):
        return text
    if not finite(baseline, name) or not baseline[name] > 0:
        return text
    return f"{text} ({100 * value / baseline[name]:.1f} %)"


def format_duration(seconds: float) -> str:
    """
    >>> [format_duration(s) for s in (0.25, 8, 200, 7530, math.nan)]
    ['0.25 s', '8.0 s', '3 min 20 s', '2 h 05 min', '-']
    """
    if not math.isfinite(seconds):
        return "-"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_time(timestamp: float) -> str:
    """Seconds since the epoch as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(timestamp))
