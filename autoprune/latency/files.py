"""Latency tables as files: JSON, so that one made on the target device can be read, kept in git and brought back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.errors import ConfigError, NotFound
from autoprune.files import Damaged, replacing, with_digest, without_digest
from autoprune.latency.layout import Axis, Segment
from autoprune.latency.settings import LatencySettings
from autoprune.latency.staircase import Staircase
from autoprune.latency.table import GroupShape, LatencyTable, Timed

__all__ = ["load_table", "save_table"]

_FORMAT = "autoprune latency table"
_VERSION = 2
_WITHOUT_DIGEST = 1
_HINT = "Make one with 'autoprune latency-table SPACE --out FILE'."


def save_table(table: LatencyTable, path: str | Path) -> Path:
    """Write the table; its folder is made where it is missing, and an older file replaced."""
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "name": table.name,
        "device": table.device,
        "settings": dict(vars(table.settings)),
        "made": table.made,
        "error": {"median": table.median_error, "p90": table.p90_error, "networks": len(table.held_out.widths)},
        "architecture": table.architecture,
        "groups": {
            name: {"channels": shape.channels, "unit": shape.unit, "cuts": [list(cut) for cut in shape.cuts]}
            for name, shape in table.groups.items()
        },
        "intercept_ms": table.intercept,
        "scale": table.scale,
        "between": table.between,
        "segments": [
            {
                "name": item.name,
                "signature": item.signature,
                "in": _axis_data(item.first),
                "out": _axis_data(item.second),
            }
            for item in table.segments
        ],
        "widths": table.widths.tolist(),
        "times_ms": np.round(table.times_ms, 6).tolist(),
        "fitted": _timed_data(table.fitted),
        "held_out": _timed_data(table.held_out),
        "staircases": [vars(item) for item in table.staircases],
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(_lines(with_digest(content)), encoding="utf-8")
    return path


def load_table(path: str | Path) -> LatencyTable:
    """Read what :func:`save_table` wrote. Raises NotFound for a missing file, ConfigError for anything else."""
    path = Path(path)
    if not path.is_file():
        raise NotFound(
            f"there is no latency table {path}.", "Make one with 'autoprune latency-table SPACE --out FILE'."
        )
    try:
        content = json.loads(path.read_text())
        known = content["format"] == _FORMAT
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        known = False
    if not known:
        raise ConfigError(f"{path} is no latency table.", _HINT)
    if content.get("version") not in (_VERSION, _WITHOUT_DIGEST):
        raise ConfigError(
            f"{path} has version {content.get('version')} of the format, expected {_VERSION}.", "Make the table again."
        )
    try:
        return _checked(_table(without_digest(content, required=content["version"] != _WITHOUT_DIGEST)))
    except (Damaged, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = error.message if isinstance(error, Damaged) else repr(error)
        raise ConfigError(f"latency table {path} is damaged: {reason}.", "Make it again.") from None


def _table(content: Mapping[str, Any]) -> LatencyTable:
    groups = {
        name: GroupShape(item["channels"], item["unit"], tuple((cut[0], cut[1], cut[2]) for cut in item["cuts"]))
        for name, item in content["groups"].items()
    }
    segments = tuple(
        Segment(item["name"], item["signature"], _axis(item["in"]), _axis(item["out"])) for item in content["segments"]
    )
    return LatencyTable(
        name=content["name"],
        device=content["device"],
        settings=LatencySettings(**content["settings"]),
        made=content["made"],
        architecture=content["architecture"],
        groups=groups,
        segments=segments,
        widths=np.array(content["widths"], dtype=np.int64).reshape(-1, len(groups)),
        times_ms=np.array(content["times_ms"], dtype=float).reshape(-1, len(segments)),
        fitted=_timed(content["fitted"], len(groups)),
        held_out=_timed(content["held_out"], len(groups)),
        intercept=float(content["intercept_ms"]),
        scale=float(content["scale"]),
        between=float(content.get("between", 1.0)),
        staircases=tuple(_staircase(item) for item in content["staircases"]),
    )


def _checked(table: LatencyTable) -> LatencyTable:
    if len(table.times_ms) != len(table.widths) or not len(table.widths):
        raise ValueError(f"{len(table.widths)} networks, {len(table.times_ms)} rows of times")
    numbers = (table.times_ms, table.fitted.measured_ms, table.held_out.measured_ms)
    if not all(np.isfinite(item).all() and (item >= 0).all() for item in numbers):
        raise ValueError("times must be finite and not negative")
    if not (math.isfinite(table.intercept) and table.scale > 0 and table.between >= 0):
        raise ValueError(f"intercept {table.intercept}, scale {table.scale}, between {table.between}")
    named = {name for item in table.segments for axis in (item.first, item.second) for name in axis.positions}
    if not named <= set(table.groups):
        raise ValueError(f"unknown groups {sorted(named - set(table.groups))}")
    return table


def _axis_data(axis: Axis) -> dict[str, Any]:
    return {"constant": axis.constant, "positions": dict(axis.positions)}


def _axis(content: Mapping[str, Any]) -> Axis:
    return Axis(int(content["constant"]), {name: int(count) for name, count in content["positions"].items()})


def _timed_data(timed: Timed) -> dict[str, Any]:
    return {
        "widths": timed.widths.tolist(),
        "measured_ms": np.round(timed.measured_ms, 6).tolist(),
        "predicted_ms": np.round(timed.predicted_ms, 6).tolist(),
    }


def _timed(content: Mapping[str, Any], groups: int) -> Timed:
    widths = np.array(content["widths"], dtype=np.int64).reshape(-1, groups)
    measured, predicted = (np.array(content[key], dtype=float) for key in ("measured_ms", "predicted_ms"))
    if not len(widths) == len(measured) == len(predicted) > 0:
        raise ValueError("networks and times do not match")
    return Timed(widths, measured, predicted)


def _staircase(content: Mapping[str, Any]) -> Staircase:
    widths, times = tuple(map(int, content["widths"])), tuple(map(float, content["times_ms"]))
    if not len(widths) == len(times) > 0:
        raise ValueError("widths and times of a staircase do not match")
    return Staircase(content["kind"], content["layer"], content["side"], widths, times)


def _lines(content: Mapping[str, Any]) -> str:
    """JSON with a line for each row of a list, so that tables can be compared by eye and by diff."""
    entries = []
    for key, value in content.items():
        if isinstance(value, list):
            rows = ",\n    ".join(json.dumps(item) for item in value)
            entries.append(f"  {json.dumps(key)}: [\n    {rows}\n  ]")
        else:
            entries.append(f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    return "{\n" + ",\n".join(entries) + "\n}\n"
