"""Discovery of prunable channel groups, each compiled once into plain (parameter, dim, index) slices.

The model runs once (``tracing``), and every position of a tensor dimension that can be cut gets an id (``labels``): the
output channels of convolutions and linear layers make ids, and each operation says what it ties together (``rules``).
Residual sums tie producers, concatenation shifts the channel numbers, flattening spreads a channel over height * width
positions, BatchNorm and depthwise filters ride along, consumers read; a grouped convolution wants equal numbers per
group. Tied ids are one unit. The layers that make channels are then visited in order of execution: the units that no
earlier layer has taken are a group, and each tensor dimension that they occupy becomes one rectangular index (units,
positions per unit). Groups that reach the model's output are skipped; those with channels that an operation freezes,
that do not fit this form, or that fail the numerical equivalence check are left out, with the reason.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from autoprune.pruning.equivalence import Checker, Failure
from autoprune.pruning.labels import OUTPUT, Site, Solution
from autoprune.pruning.rules import Propagation, Root, propagate
from autoprune.pruning.tracing import record
from autoprune.types import ChannelGroup, Slice

__all__ = ["Discovery", "discover"]

_log = logging.getLogger("autoprune")


@dataclass(frozen=True)
class Discovery:
    """The prunable groups of a model, in order of execution, and those that cannot be pruned."""

    groups: tuple[ChannelGroup, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Group name -> why. Groups that make the model's output are not listed: they are never candidates."""


def discover(
    model: nn.Module, example_input: torch.Tensor, *, exclude: Sequence[str] = (), check: bool = True
) -> Discovery:
    """Find the channel groups of ``model`` (any mode, any device; it is not changed).

    ``example_input`` (batch first) must run through the model; ``exclude`` holds shell patterns of group names.
    A group is named after the first layer that makes its channels. With ``check`` every group is verified: the sliced
    network must equal the one whose consumers ignore the cut channels, to 1e-9 in float64 (see ``equivalence``).
    Raises ConfigError when the model does not run.
    """
    compiled = _Compilation(propagate(record(model, example_input)), exclude)
    groups, left_out = compiled.groups(), compiled.left_out
    if check and groups:
        failed = _culprits(Checker(model, groups, example_input).failure, [group.name for group in groups])
        groups = [group for group in groups if group.name not in failed]
        left_out.update(failed)
    for name, reason in left_out.items():
        _log.info("group %r is left out: %s", name, reason)
    return Discovery(tuple(groups), left_out)


@dataclass(frozen=True, eq=False)
class _Draft:
    """A group without its members."""

    name: str
    channels: int
    units: int


class _Compilation:
    """From classes of ids to groups."""

    def __init__(self, state: Propagation, exclude: Sequence[str]) -> None:
        self.left_out: dict[str, str] = {}
        self._solution: Solution = state.labels.solve()
        self._sites = [site for site in state.sites if site.ids is not None]
        self._drafts: list[_Draft] = []
        count = len(self._solution.classes)
        self._owner = np.full(count, -1)  # class -> number of the draft that has it
        self._unit = np.zeros(count, dtype=np.int64)  # class -> its unit in that draft
        self._taken = np.zeros(count, dtype=bool)
        self._taken[0] = True
        for root in state.roots:
            self._visit(root, exclude)

    def _visit(self, root: Root, exclude: Sequence[str]) -> None:
        classes = self._solution.classes[root.ids]
        classes = classes[~self._taken[classes]]
        if not len(classes):
            return
        self._taken[classes] = True
        units, first, counts = np.unique(classes, return_index=True, return_counts=True)
        reasons = [self._solution.frozen[item] for item in units.tolist() if item in self._solution.frozen]
        if OUTPUT in reasons:
            return
        if any(fnmatch.fnmatchcase(root.name, pattern) for pattern in exclude):
            self.left_out[root.name] = "it is excluded"
        elif len(classes) == 1:
            self.left_out[root.name] = "it has one channel"
        elif reasons:
            self.left_out[root.name] = reasons[0]
        elif len(units) == 1:
            self.left_out[root.name] = f"all its {len(classes)} channels must stay together"
        elif counts.min() != counts.max():
            self.left_out[root.name] = "some of its channels are tied together and others are not"
        else:
            self._unit[units[np.argsort(first)]] = np.arange(len(units))
            self._owner[units] = len(self._drafts)
            self._drafts.append(_Draft(root.name, len(classes), len(units)))

    def groups(self) -> list[ChannelGroup]:
        """In order of execution; those without rectangular indices are left out."""
        members: list[list[Slice]] = [[] for _ in self._drafts]
        known: dict[int, dict[int, np.ndarray | None]] = {}  # many tensors share an array of ids
        for site in self._sites:
            parts = known.get(id(site.ids))
            if parts is None:
                parts = known[id(site.ids)] = self._indices(site)
            for number, index in parts.items():
                reason = _unfit(site, index)
                if reason:
                    self.left_out.setdefault(self._drafts[number].name, reason)
                elif index is not None:
                    members[number].append(Slice(site.parameter, site.dim, index, _role(site)))
        return [
            ChannelGroup(draft.name, draft.channels, tuple(found), draft.channels // draft.units)
            for draft, found in zip(self._drafts, members, strict=True)
            if draft.name not in self.left_out
        ]

    def _indices(self, site: Site) -> dict[int, np.ndarray | None]:
        """Draft -> (units, positions per unit) of the site; None when the units have unequal numbers of positions."""
        assert site.ids is not None
        classes = self._solution.classes[site.ids]
        owner, unit = self._owner[classes], self._unit[classes]
        order = np.lexsort((unit, owner))
        owner, unit = owner[order], unit[order]
        starts = np.flatnonzero(np.diff(owner, prepend=-2))
        found: dict[int, np.ndarray | None] = {}
        for start, stop in zip(starts, [*starts[1:], len(owner)], strict=True):
            number = int(owner[start])
            if number < 0:
                continue
            counts = np.bincount(unit[start:stop], minlength=self._drafts[number].units)
            even = counts.min() == counts.max()
            found[number] = order[start:stop].reshape(len(counts), -1) if even else None
        return found


def _unfit(site: Site, index: np.ndarray | None) -> str | None:
    if index is None:
        return f"only some of its channels reach {site.parameter!r}"
    if len(site.roles) > 1:
        return f"{site.parameter!r} makes its channels and reads them too"
    return None


def _role(site: Site) -> str:
    return next(iter(site.roles), "through")


def _culprits(failure_of: Callable[[Collection[str]], Failure | None], names: Sequence[str]) -> dict[str, str]:
    """Names that cannot be in one check with the others, and why.

    While the network stops somewhere, the groups near that place are put aside; the rest, and then each of those, come
    on top of what has passed, in halves where that fails, down to single names.
    """
    failed: dict[str, str] = {}
    rest, aside = list(names), []
    while (failure := failure_of(rest)) and failure.suspects:
        aside += [name for name in rest if name in failure.suspects]
        rest = [name for name in rest if name not in failure.suspects]
    passed = set() if failure else set(rest)
    # A list and no recursion: a closure that knows itself would keep the checker's memory.
    waiting = [*([name] for name in reversed(aside)), *([rest] if failure and rest else [])]
    while waiting:
        batch = waiting.pop()
        failure = failure_of(passed.union(batch))
        if failure is None:
            passed.update(batch)
        elif len(batch) == 1:
            failed[batch[0]] = failure.reason
        else:
            half = len(batch) // 2
            waiting += [batch[half:], batch[:half]]
    return failed
