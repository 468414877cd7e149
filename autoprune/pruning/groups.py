"""Discovery of prunable channel groups, each compiled once into plain (parameter, dim, index) slices.

The layers that make channels (convolutions, linear layers) are visited in order of execution. From the output channels
of each, the graph is walked to everything they are coupled to: residual sums tie producers together, concatenation
shifts the channel numbers, flattening spreads a channel over height * width positions, BatchNorm and depthwise filters
ride along, consumers read. Every stop of the walk contributes pairs (position in a tensor, channel of the root layer).
Channels that share a position, or that a grouped convolution wants in equal numbers per group, are merged into units;
each tensor dimension then becomes one rectangular index (units, positions per unit). Groups that reach the model's
output are skipped; groups that do not fit this form, overlap another, or fail the numerical equivalence check are left
out, with the reason.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from autoprune.pruning import layers
from autoprune.pruning.equivalence import Checker
from autoprune.pruning.graph import Graph, Reach
from autoprune.types import ChannelGroup, Slice

__all__ = ["Discovery", "discover"]

_log = logging.getLogger("autoprune")


@dataclass(frozen=True)
class Discovery:
    """The prunable groups of a model, in order of execution, and those that cannot be pruned."""

    groups: tuple[ChannelGroup, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Group name -> why. Groups that make the model's output are not listed: they are never candidates."""


class _Unfit(Exception):
    """Why a group cannot be compiled."""


def discover(
    model: nn.Module, example_input: torch.Tensor, *, exclude: Sequence[str] = (), check: bool = True
) -> Discovery:
    """Find the channel groups of ``model`` (any mode, any device; it is not changed).

    ``example_input`` (batch first) must run through the model; ``exclude`` holds shell patterns of group names.
    A group is named after the first layer that makes its channels. With ``check`` every group is verified: the sliced
    network must equal the one whose consumers ignore the cut channels, to 1e-9 in float64 (see ``equivalence``).
    Raises ConfigError when the model does not run or cannot be traced.
    """
    graph = Graph(model, example_input)
    compiled, left_out = _compile_all(graph, exclude)
    for name, other in _overlaps(compiled).items():
        left_out[name] = f"it shares positions with group {other!r}, so neither can be cut alone"
    groups = [group for group in compiled if group.name not in left_out]
    if check:
        groups, failed = _verified(model, example_input, groups)
        left_out.update(failed)
    for name, reason in left_out.items():
        _log.info("group %r is left out: %s", name, reason)
    return Discovery(tuple(groups), left_out)


def _compile_all(graph: Graph, exclude: Sequence[str]) -> tuple[list[ChannelGroup], dict[str, str]]:
    groups: list[ChannelGroup] = []
    left_out: dict[str, str] = {}
    covered: dict[Any, np.ndarray] = {}
    for root in graph.roots():
        channels = np.arange(layers.side_size(root.module, "out") or 0)
        channels = channels[~covered.get(root, np.zeros(len(channels), dtype=bool))]
        if not len(channels):
            continue
        reach = graph.walk(root, channels)
        _cover(reach, covered)
        if any(node in graph.output_nodes and side == "out" for node, side in reach.visits):
            continue
        name = graph.name(root)
        try:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude):
                raise _Unfit("it is excluded")
            groups.append(_compile(graph, reach))
        except _Unfit as reason:
            left_out[name] = str(reason)
    return groups, left_out


def _cover(reach: Reach, covered: dict[Any, np.ndarray]) -> None:
    """Mark the output channels that this group takes, so that no later walk starts from them."""
    for node, side, positions, _ in reach.pairs():
        size = layers.side_size(node.module, "out")
        if side == "out" and size:
            mask = covered.setdefault(node, np.zeros(size, dtype=bool))
            mask[positions[(positions >= 0) & (positions < size)]] = True


def _compile(graph: Graph, reach: Reach) -> ChannelGroup:
    """Raises _Unfit when the group is not a set of equal units with rectangular indices."""
    if layers.depth_multiplier(reach.root.module):
        raise _Unfit("it is depthwise, and the channels that it reads cannot be cut")
    for node, _ in reach.visits:
        if node in graph.failed:
            raise _Unfit(f"{graph.name(node)} on its channels {graph.failed[node]}")
    edges: list[tuple[np.ndarray, np.ndarray]] = []
    cuts: dict[tuple[str, int], tuple[str, list[np.ndarray], list[np.ndarray]]] = {}
    for node, side, positions, roots in reach.pairs():
        _check_stop(graph, node, side, positions)
        edges.append((positions, roots))
        keys = layers.coupling(node.module, side, positions)
        if keys is not None:
            edges.append((keys, roots))
        for parameter, cut in _cuts(graph, node, side, positions):
            _role, all_positions, all_roots = cuts.setdefault((parameter, cut.dim), (cut.role, [], []))
            all_positions.append(cut.positions)
            all_roots.append(roots)
            edges.append((cut.positions, roots))
    unit_of, units = _units(reach, edges)
    members = tuple(
        Slice(parameter, dim, _index(parameter, unit_of, units, positions, roots), role)
        for (parameter, dim), (role, positions, roots) in cuts.items()
    )
    return ChannelGroup(graph.name(reach.root), len(reach.channels), members, len(reach.channels) // units)


def _check_stop(graph: Graph, node: Any, side: str, positions: np.ndarray) -> None:
    name = graph.name(node)
    reason = layers.unsupported(node.module)
    if reason:
        raise _Unfit(f"{type(node.module).__name__} {name!r} {reason}")
    size = layers.side_size(node.module, side)
    if size is not None and (positions.min() < 0 or positions.max() >= size):
        raise _Unfit(f"its channels do not line up with the {size} of {name!r} (reshaped, padded or split between)")


def _cuts(graph: Graph, node: Any, side: str, positions: np.ndarray) -> list[tuple[str, layers.Cut]]:
    """(name in state_dict, cut) for each tensor of the node that these positions cut."""
    module = node.module
    if isinstance(module, nn.Parameter):
        dim = node.pruning_dim % module.ndim
        if positions.max() >= module.shape[dim]:
            raise _Unfit(f"its channels do not line up with parameter {graph.name(node)!r} {tuple(module.shape)}")
        return [(graph.name(node), layers.Cut("", dim, positions))]
    found = []
    for cut in layers.cuts(module, side, positions):
        if cut.attribute not in module._parameters and cut.attribute not in module._buffers:
            raise _Unfit(f"{cut.attribute!r} of {graph.name(node)!r} is computed from other tensors")
        prefix = graph.names[module]
        found.append((f"{prefix}.{cut.attribute}" if prefix else cut.attribute, cut))
    return found


def _units(reach: Reach, edges: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, int]:
    """(unit of each root channel (-1 where the group has none), number of units)."""
    parent = np.arange(reach.stride)

    def find(channel: int) -> int:
        while parent[channel] != channel:
            parent[channel] = parent[parent[channel]]
            channel = int(parent[channel])
        return channel

    merged = False
    for keys, roots in edges:
        if (keys[1:] > keys[:-1]).all():
            continue  # no two channels share a key
        order = np.lexsort((roots, keys))
        keys, roots = keys[order], roots[order]
        same = np.flatnonzero((keys[1:] == keys[:-1]) & (roots[1:] != roots[:-1]))
        for i in same:
            a, b = find(int(roots[i])), find(int(roots[i + 1]))
            parent[max(a, b)] = min(a, b)
            merged = True
    labels = np.array([find(int(channel)) for channel in reach.channels]) if merged else reach.channels
    names, unit, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise _Unfit(f"all its {len(labels)} channels must stay together" if len(labels) > 1 else "it has one channel")
    if counts.min() != counts.max():
        raise _Unfit("some of its channels are tied together and others are not")
    unit_of = np.full(reach.stride, -1)
    unit_of[reach.channels] = unit
    return unit_of, len(names)


def _index(
    parameter: str, unit_of: np.ndarray, units: int, positions: list[np.ndarray], roots: list[np.ndarray]
) -> np.ndarray:
    """(units, positions per unit) int64."""
    place = np.concatenate(positions)
    stride = int(place.max()) + 1
    codes = np.unique(unit_of[np.concatenate(roots)] * stride + place)
    counts = np.bincount(codes // stride, minlength=units)
    if counts.min() != counts.max():
        raise _Unfit(f"only some of its channels reach {parameter!r}")
    index: np.ndarray = (codes % stride).reshape(units, -1)
    return index


def _overlaps(groups: Sequence[ChannelGroup]) -> dict[str, str]:
    """Groups that claim the same position of the same tensor dimension: name -> another's name."""
    claims: dict[tuple[str, int], list[tuple[int, np.ndarray]]] = {}
    for number, group in enumerate(groups):
        for member in group.members:
            claims.setdefault((member.parameter, member.dim), []).append((number, member.index.ravel()))
    found: dict[str, str] = {}
    for parts in claims.values():
        positions = np.concatenate([flat for _, flat in parts])
        owners = np.repeat([number for number, _ in parts], [len(flat) for _, flat in parts])
        order = np.argsort(positions, kind="stable")
        for i in np.flatnonzero(np.diff(positions[order]) == 0):
            first, second = groups[owners[order[i]]].name, groups[owners[order[i + 1]]].name
            found[first], found[second] = second, first
    return found


def _verified(
    model: nn.Module, example_input: torch.Tensor, groups: Sequence[ChannelGroup]
) -> tuple[list[ChannelGroup], dict[str, str]]:
    """All groups at once; when that fails, halves, each on top of what has passed, down to single groups."""
    if not groups:
        return [], {}
    checker = Checker(model, groups, example_input)
    passed: set[str] = set()
    failed: dict[str, str] = {}

    def add(batch: Sequence[ChannelGroup]) -> None:
        names = passed | {group.name for group in batch}
        reason = checker.failure(names)
        if reason is None:
            passed.update(names)
        elif len(batch) == 1:
            failed[batch[0].name] = reason
        else:
            half = len(batch) // 2
            add(batch[:half])
            add(batch[half:])

    add(groups)
    return [group for group in groups if group.name in passed], failed
