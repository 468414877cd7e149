"""The search space: the searched groups with their allowed widths, and what any choice of them costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autoprune.config.schema import RuleConfig
from autoprune.cost.table import CostTable
from autoprune.errors import ConfigError, did_you_mean
from autoprune.space.rules import allowed_widths, apply_rules, check_rules
from autoprune.types import Candidate, ChannelGroup

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Dimension", "SearchSpace"]


@dataclass(frozen=True)
class Dimension:
    """One searched group: widths are channels kept."""

    name: str
    channels: int
    allowed: tuple[int, ...]
    """Ascending; the last is the full width."""

    def nearest(self, width: float) -> int:
        """The allowed width nearest to ``width``; the larger of two equally near."""
        return min(self.allowed, key=lambda choice: (abs(choice - width), -choice))


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """All candidates of a search. Groups that are not searched stay at full width. Picklable; no torch inside.

    Build one with :meth:`build` or, from a module, :meth:`from_module`.
    """

    dimensions: tuple[Dimension, ...]
    cost: CostTable
    """Over the searched groups, in the order of ``dimensions``; the others are counted at full width. Its keep_ratio
    is the share of the searched channels."""
    groups: tuple[ChannelGroup, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Groups that stay full: name -> why."""

    @classmethod
    def build(
        cls,
        groups: Sequence[ChannelGroup],
        cost: CostTable,
        rules: Sequence[RuleConfig] = (),
        left_out: Mapping[str, str] | None = None,
    ) -> SearchSpace:
        """Apply the rules to all discovered groups; ``cost`` knows at least these groups.

        Raises ConfigError for a rule that matches no group, and when no group is left to search.
        """
        reasons = dict(left_out or {})
        check_rules(rules, [*(group.name for group in groups), *reasons])
        searched: list[ChannelGroup] = []
        dimensions: list[Dimension] = []
        for group in groups:
            applied = apply_rules(group.name, rules)
            if applied.exclude:
                reasons[group.name] = f"excluded by rule {applied.excluded_by!r}"
                continue
            searched.append(group)
            dimensions.append(Dimension(group.name, group.channels, allowed_widths(group, applied)))
        if not searched:
            why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "the model has no groups"
            bound = "No rule can change that: change these layers, or take another model."
            raise ConfigError(
                f"no group is left to search ({why}).", "Loosen the rules of the space." if groups else bound
            )
        return cls(tuple(dimensions), _restricted(cost, [group.name for group in searched]), tuple(searched), reasons)

    @classmethod
    def from_module(
        cls,
        model: nn.Module,
        example_input: torch.Tensor | tuple[torch.Tensor, ...],
        rules: Sequence[RuleConfig] = (),
        check: bool = True,
    ) -> SearchSpace:
        """Discover the groups of ``model`` on ``example_input`` (1, C, H, W), trace their cost, apply ``rules``.

        A model of several inputs takes a tuple of them, each batch first. ``check`` runs the slicing equivalence on
        every group and leaves out those that fail it. Raises ConfigError that names a module that cannot be pruned at
        all (quantised, TorchScript...), and when no group is left.
        """
        from autoprune.cost.trace import trace
        from autoprune.pruning.groups import discover
        from autoprune.pruning.packing import Packed, plain, unprefixed
        from autoprune.pruning.suitability import require_suitable

        require_suitable(model)
        if isinstance(example_input, tuple) and len(example_input) == 1:
            example_input = example_input[0]
        if not isinstance(example_input, tuple):
            found = discover(model, example_input, check=check)
            return cls.build(found.groups, trace(model, example_input, found.groups), rules, found.left_out)
        packed, example = Packed(model, example_input), Packed.pack(example_input)
        found = discover(packed, example, check=check)
        cost = trace(packed, example, found.groups)
        groups = [unprefixed(group) for group in found.groups]
        terms = tuple(replace(term, parameter=plain(term.parameter)) for term in cost.terms)
        uncounted = tuple(map(plain, cost.uncounted))
        cost = CostTable(tuple(group.name for group in groups), cost.channels, cost.unit, terms, uncounted)
        return cls.build(groups, cost, rules, {plain(name): reason for name, reason in found.left_out.items()})

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(dimension.name for dimension in self.dimensions)

    @cached_property
    def _known_names(self) -> frozenset[str]:
        return frozenset(self.names)

    @property
    def size(self) -> int:
        """Number of candidates, budgets apart."""
        return math.prod(len(dimension.allowed) for dimension in self.dimensions)

    def full(self) -> Candidate:
        return Candidate({dimension.name: dimension.channels for dimension in self.dimensions})

    def minimum(self) -> Candidate:
        return Candidate({dimension.name: dimension.allowed[0] for dimension in self.dimensions})

    def uniform(self, keep_ratio: float) -> Candidate:
        """Each group at the allowed width nearest to ``keep_ratio`` of its channels.

        Raises ConfigError for a keep_ratio outside (0, 1].
        """
        if not 0 < keep_ratio <= 1:
            raise ConfigError(f"keep_ratio must be above 0 and at most 1, got {keep_ratio}.")
        return Candidate({item.name: item.nearest(keep_ratio * item.channels) for item in self.dimensions})

    def nearest(self, widths: Mapping[str, float]) -> Candidate:
        """Each named group at its nearest allowed width, the others full.

        Raises ConfigError for a group that is not searched or a width that is no number.
        """
        self._check_names(widths)
        for name, width in widths.items():
            if not math.isfinite(width):
                raise ConfigError(f"group {name!r}: width {width} is not a finite number.")
        return Candidate({item.name: item.nearest(widths.get(item.name, item.channels)) for item in self.dimensions})

    def validate(self, candidate: Candidate) -> None:
        """Raises ConfigError unless the candidate names every searched group, and nothing else, with allowed widths."""
        self._check_names(candidate.widths)
        for item in self.dimensions:
            if item.name not in candidate.widths:
                raise ConfigError(
                    f"group {item.name!r} has no width.", f"A candidate names all {len(self.dimensions)} groups."
                )
            if candidate.widths[item.name] not in item.allowed:
                raise ConfigError(
                    f"group {item.name!r}: width {candidate.widths[item.name]} is not allowed; "
                    f"allowed are {_listed(item.allowed)}.",
                    f"The nearest is {item.nearest(candidate.widths[item.name])}.",
                )

    def vector(self, candidate: Candidate) -> np.ndarray:
        """Widths in the order of ``dimensions``: (G,) int64."""
        return np.array([candidate.widths[item.name] for item in self.dimensions], dtype=np.int64)

    def candidate(self, vector: np.ndarray) -> Candidate:
        """The inverse of :meth:`vector`."""
        return Candidate(dict(zip(self.names, (int(width) for width in vector), strict=True)))

    def _check_names(self, widths: Mapping[str, float]) -> None:
        for name in widths:
            if name not in self._known_names:
                if name in self.left_out:
                    raise ConfigError(f"group {name!r} is not searched: {self.left_out[name]}.", "Leave it out.")
                raise ConfigError(f"the space has no group {name!r}.", did_you_mean(name, self.names))


def _restricted(cost: CostTable, names: Sequence[str]) -> CostTable:
    """The same network with only ``names`` free to change, in this order: the cuts of the others are forgotten."""
    missing = set(names) - set(cost.groups)
    if missing:
        raise ConfigError(f"the cost table lacks the groups {', '.join(sorted(missing))}.")
    old = [cost.groups.index(name) for name in names]
    new = {position: index for index, position in enumerate(old)}
    terms = tuple(
        replace(term, cuts=tuple(replace(cut, group=new[cut.group]) for cut in term.cuts if cut.group in new))
        for term in cost.terms
    )
    return CostTable(tuple(names), cost.channels[old], cost.unit[old], terms, cost.uncounted)


def _listed(allowed: Sequence[int]) -> str:
    """At most six of them: ``8, 16, ..., 64``."""
    if len(allowed) <= 6:
        return ", ".join(map(str, allowed))
    return f"{allowed[0]}, {allowed[1]}, ..., {allowed[-1]}"
