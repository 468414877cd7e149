"""Predicted latency of many candidates at once: a cost model that extends a CostTable.

Segments whose sizes depend on the same groups are added up into one array over those groups' widths, so a candidate
costs one look-up for each pair of groups that meet in a layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.cost.table import CostTable
from autoprune.latency.layout import Axis, Segment
from autoprune.latency.table import LatencyTable

__all__ = ["LatencyModel"]

_ROWS = 1 << 16
_Key = tuple[tuple[int, int], ...]
"""(position of a group among the searched ones, its weight), sorted; weights without a common divisor."""


@dataclass(frozen=True, eq=False)
class _Index:
    """The values that a key takes: a position in a look-up array for every candidate."""

    key: _Key
    lowest: int
    step: int
    count: int
    places: np.ndarray | None = None
    """A single group: units kept -> position among its allowed widths (the next one above, for others)."""
    units: np.ndarray | None = None
    """A single group: allowed widths in units."""

    def values(self) -> np.ndarray:
        """What ``sum weight * units`` is at each position: (count,) int64."""
        return self.units if self.units is not None else self.lowest + self.step * np.arange(self.count)

    def positions(self, units: np.ndarray) -> np.ndarray:
        """Units (N, G) -> (N,) int64."""
        if self.places is not None:
            return np.asarray(self.places[units[:, self.key[0][0]]])
        total = sum((weight * units[:, group] for group, weight in self.key), np.zeros(len(units), dtype=np.int64))
        return np.asarray(np.clip((total - self.lowest + self.step - 1) // self.step, 0, self.count - 1))


class LatencyModel:
    """``latency_ms`` of candidates over the groups of ``cost``. Picklable.

    ``allowed`` has the widths that each group may take, ascending, full width last; another width counts as the next
    one above. Raises ConfigError when the table is for another network.
    """

    names = ("latency_ms",)

    def __init__(self, table: LatencyTable, cost: CostTable, allowed: Sequence[Sequence[int]]) -> None:
        table.check(cost)
        self.digest = table.digest
        self._unit = np.asarray(cost.unit)
        self._allowed = [np.asarray(widths) // unit for widths, unit in zip(allowed, cost.unit, strict=True)]
        self._columns = {name: column for column, name in enumerate(cost.groups)}
        self._full = {name: shape.channels // shape.unit for name, shape in table.groups.items()}
        self._indices: dict[_Key, _Index] = {}
        arrays: dict[tuple[_Key, _Key], np.ndarray] = {}
        for segment in table.segments:
            keys, times = self._looked_up(table, segment)
            times = times if segment.is_layer else table.between * times
            arrays[keys] = arrays[keys] + times if keys in arrays else times
        constant = sum(float(times.sum()) for keys, times in arrays.items() if keys == ((), ()))
        self._intercept = table.intercept + table.scale * constant
        merged = _merged({keys: times for keys, times in arrays.items() if keys != ((), ())})
        self._arrays = {keys: table.scale * times for keys, times in merged.items()}
        self._ceilings = {
            keys: np.maximum.accumulate(np.maximum.accumulate(times, axis=0), axis=1)
            for keys, times in self._arrays.items()
        }

    def metrics(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """Widths (N, G) of int -> ``latency_ms`` (N,) float64."""
        return {"latency_ms": self._sum(self._arrays, widths)}

    def ceilings(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """As :meth:`metrics`: the highest latency of any candidate that is nowhere wider, added up pair by pair."""
        return {"latency_ms": self._sum(self._ceilings, widths)}

    def _sum(self, arrays: Mapping[tuple[_Key, _Key], np.ndarray], widths: np.ndarray) -> np.ndarray:
        widths = np.asarray(widths)
        result = np.full(len(widths), self._intercept)
        for start in range(0, len(widths), _ROWS):
            units = -(-widths[start : start + _ROWS].astype(np.int64) // self._unit)
            at = {key: index.positions(units) for key, index in self._indices.items() if key}
            for (first, second), times in arrays.items():
                place = at[first] if not second else at[first] * times.shape[1] + at[second]
                result[start : start + _ROWS] += times.ravel()[place]
        return result

    def _looked_up(self, table: LatencyTable, segment: Segment) -> tuple[tuple[_Key, _Key], np.ndarray]:
        """The segment's times over one or two keys: (n, 1) where the second is empty, or (n, m)."""
        (one, sizes_one), (two, sizes_two) = self._values(segment.first), self._values(segment.second)
        surface = table.surface(segment.signature)
        if one == two or not one or not two:
            many = max(len(sizes_one), len(sizes_two))
            pairs = np.stack([np.broadcast_to(sizes_one, many), np.broadcast_to(sizes_two, many)], axis=1)
            return (one or two, ()), surface.times(pairs)[:, None]
        grid = np.stack(np.meshgrid(sizes_one, sizes_two, indexing="ij"), axis=-1)
        times = surface.times(grid.reshape(-1, 2)).reshape(grid.shape[:2])
        return ((one, two), times) if one < two else ((two, one), times.T)

    def _values(self, axis: Axis) -> tuple[_Key, np.ndarray]:
        """The key that the axis depends on, and its sizes at each of the key's positions."""
        constant, weights = axis.constant, {}
        for name, positions in axis.positions.items():
            if name in self._columns:
                weights[self._columns[name]] = positions
            else:
                constant += positions * self._full[name]
        divisor = math.gcd(*weights.values()) if weights else 1
        key = tuple(sorted((group, weight // divisor) for group, weight in weights.items()))
        if key not in self._indices:
            self._indices[key] = self._index(key)
        return key, constant + divisor * self._indices[key].values()

    def _index(self, key: _Key) -> _Index:
        if len(key) == 1:
            units = self._allowed[key[0][0]]
            places = np.searchsorted(units, np.arange(units[-1] + 1))
            return _Index(key, int(units[0]), 1, len(units), places, units)
        lowest = sum(weight * int(self._allowed[group][0]) for group, weight in key)
        highest = sum(weight * int(self._allowed[group][-1]) for group, weight in key)
        steps = [weight * int(step) for group, weight in key for step in np.diff(self._allowed[group])]
        step = math.gcd(*steps) or 1
        return _Index(key, lowest, step, (highest - lowest) // step + 1)


def _merged(arrays: Mapping[tuple[_Key, _Key], np.ndarray]) -> dict[tuple[_Key, _Key], np.ndarray]:
    """Arrays over one key are added to one over that key and another, where there is one: fewer look-ups."""
    merged = {keys: times for keys, times in arrays.items() if keys[1]}
    for (key, _), times in ((keys, times) for keys, times in arrays.items() if not keys[1]):
        hosts = [keys for keys in merged if key in keys]
        if not hosts:
            merged[key, ()] = times
        elif hosts[0][0] == key:
            merged[hosts[0]] = merged[hosts[0]] + times
        else:
            merged[hosts[0]] = merged[hosts[0]] + times.T
    return merged
