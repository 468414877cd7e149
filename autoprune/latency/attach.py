"""Giving a search space a latency: from a table file, or from a table made here and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from autoprune.errors import ConfigError
from autoprune.files import set_aside
from autoprune.latency.files import load_table, save_table
from autoprune.latency.predictor import LatencyModel
from autoprune.latency.settings import LatencySettings
from autoprune.latency.table import LatencyTable, architecture_digest, group_shapes
from autoprune.space.space import SearchSpace

__all__ = ["attached", "kept_table"]


def attached(space: SearchSpace, table: LatencyTable) -> SearchSpace:
    """The space with ``latency_ms`` among the metrics of its cost table. Raises ConfigError for another's table."""
    model = LatencyModel(table, space.cost, [item.allowed for item in space.dimensions])
    return replace(space, cost=replace(space.cost, extras=(*space.cost.extras, model)))


def kept_table(
    folder: Path,
    space: SearchSpace,
    settings: LatencySettings,
    device: str,
    effort: object,
    make: Callable[[], LatencyTable],
) -> LatencyTable:
    """The table of an earlier call for the same network, widths, settings, device and effort, or a new one, kept.

    A search that is resumed must meet the very numbers that it began with, hence the file. A damaged one is warned of
    and set aside; the new one has other numbers, which a resumed search refuses.
    """
    groups = {name: asdict(shape) for name, shape in group_shapes(space.cost).items()}
    content = [architecture_digest(space.cost), groups, [item.allowed for item in space.dimensions]]
    content += [asdict(settings), device, str(effort)]
    path = folder / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}.json"
    if path.exists():
        try:
            return load_table(path)
        except ConfigError as error:
            set_aside(path, "the kept latency table", error.message, "It is measured again.")
    table = make()
    save_table(table, path)
    return table
