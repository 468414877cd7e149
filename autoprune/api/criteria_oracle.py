"""The oracle of a report on criteria: every unit ablated, group by group, and kept for the next report."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoprune.errors import NotFound
from autoprune.files import Damaged, read_sealed, sealing, set_aside

if TYPE_CHECKING:
    from autoprune.analysis.criteria_report import Oracle
    from autoprune.data.dataset import Split
    from autoprune.driver.assemble import Prepared
    from autoprune.protocols import Progress
    from autoprune.types import ChannelGroup

__all__ = ["make_oracle"]

_VERSION = 1
"""Raised whenever a change of the code would give other numbers."""


def make_oracle(prepared: Prepared, split: Split, progress: Progress) -> tuple[Oracle, dict[str, str]]:
    """What ablating each unit does on ``split``, and what is to be said of it.

    Groups are kept in the cache as soon as they are done, so a run that was stopped goes on, and a report on other
    criteria does not ablate again. Raises NotFound when no group can be ablated.
    """
    import torch

    from autoprune.analysis.criteria_report import Oracle
    from autoprune.pruning.ablation import Ablator
    from autoprune.training.scoring import normalise, score

    dataset, module = prepared.dataset, prepared.base.module
    full = score(module, split, mean=dataset.mean, std=dataset.std, batch_size=prepared.config.evaluator.batch_size)
    images = normalise(torch.tensor(split.images), dataset.mean, dataset.std)
    ablator = Ablator(module, prepared.space.groups, images, torch.tensor(split.labels))
    groups = [group for group in prepared.space.groups if group.name not in ablator.untapped]
    if not groups:
        reasons = "; ".join(f"{name}: {why}" for name, why in ablator.untapped.items())
        raise NotFound(f"no group of this network can be ablated: {reasons}")
    for name, why in ablator.untapped.items():
        progress.note(f"group {name} is left out of the oracle: {why}")
    kept = _Kept.read(_path(prepared, split), groups)
    progress.phase("ablating units", sum(map(ablator.steps, groups)))
    for group in groups:
        if group.name in kept.changes:
            progress.advance(step=ablator.steps(group))
            continue
        started = time.process_time()
        changes = ablator.changes(group, lambda steps: progress.advance(step=steps))
        kept = kept.with_group(group.name, changes, time.process_time() - started)
    units = sum(group.units for group in groups)
    model = prepared.config.space.model
    return Oracle({group.name: kept.changes[group.name] for group in groups}), {
        "network": f"{getattr(model, 'name', model.kind)}, {units} units in {len(groups)} groups"
        + (f" (not ablated: {', '.join(ablator.untapped)})" if ablator.untapped else ""),
        "oracle": f"{len(split)} training images; the network's loss on them is {full['loss']:.4f} nats, its top1 "
        f"{100 * full['top1']:.2f} %; {kept.seconds:.0f} s of processor time",
    }


def _path(prepared: Prepared, split: Split) -> Path:
    from autoprune.data.cache import cache_dir

    groups = [(group.name, group.channels, group.unit) for group in prepared.space.groups]
    content = [_VERSION, prepared.base.digest, split.digest, prepared.dataset.mean, prepared.dataset.std, groups]
    return cache_dir("oracles") / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}.npz"


@dataclass(frozen=True)
class _Kept:
    """Groups that were ablated before, or in this run."""

    path: Path
    changes: Mapping[str, np.ndarray]
    seconds: float
    """Of processor time."""

    @classmethod
    def read(cls, path: Path, groups: Sequence[ChannelGroup]) -> _Kept:
        """Nothing where there is no file, or one that is damaged, which is warned of and set aside."""
        if not path.is_file():
            return cls(path, {}, 0.0)
        try:
            with np.load(io.BytesIO(read_sealed(path)), allow_pickle=False) as content:
                found = {
                    group.name: content[f"changes {group.name}"]
                    for group in groups
                    if f"changes {group.name}" in content
                }
                return cls(path, found, float(content["seconds"]))
        except (Damaged, OSError, ValueError, KeyError) as error:
            set_aside(path, "the kept oracle", error, "It is computed again.")
        return cls(path, {}, 0.0)

    def with_group(self, name: str, changes: np.ndarray, seconds: float) -> _Kept:
        """With one group more, also in the file."""
        grown = _Kept(self.path, {**self.changes, name: changes}, self.seconds + seconds)
        arrays = {f"changes {group}": each for group, each in grown.changes.items()}
        with sealing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, seconds=np.array(grown.seconds), **arrays)  # type: ignore[arg-type]
        return grown
