"""What every operation does to the ids of channels: the walk over a trace, and the rules that fit most operations.

Each operation has a rule; those of layers are in ``rules_layers``, those that move positions in ``rules_shapes``. An
operation without a rule freezes what reaches it, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoprune.pruning.labels import OUTPUT, Field, Labels, Site
from autoprune.pruning.tracing import Op, Ref, Trace

__all__ = ["RULES", "Propagation", "Root", "Value", "propagate", "rule"]


@dataclass(eq=False)
class Value:
    """What is known about a tensor's dimensions."""

    shape: tuple[int, ...]
    fields: dict[int, Field] = field(default_factory=dict)
    """Dimension -> ids; a dimension without is of fixed size."""
    flexible: frozenset[int] = frozenset()
    """Dimensions of constants and expanded dimensions: they may take any size, as far as is known."""
    weight: bool = False
    """Computed from parameters and buffers alone."""
    base: Value | None = None
    """What this is a slice of (same number of dimensions)."""


@dataclass(frozen=True, eq=False)
class Root:
    """A layer that makes channels."""

    name: str
    ids: np.ndarray


Rule = Callable[["Propagation", Op], None]
RULES: dict[str, Rule] = {}
"""Operation, without the underscore of its in-place form -> rule."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations of these names."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def propagate(trace: Trace) -> Propagation:
    """Apply the rules in the order of execution."""
    from autoprune.pruning import rules_layers, rules_shapes  # noqa: F401 - they register themselves

    state = Propagation(trace)
    for op in trace.ops:
        _rule_of(op)(state, op)
    for ref in trace.outputs:
        state.freeze(state[ref], OUTPUT)
    return state


def _rule_of(op: Op) -> Rule:
    name = op.name
    if op.opaque:
        return fallback
    known = RULES.get(name) or (RULES.get(name.removesuffix("_")) if name.endswith("_") else None)
    if known:
        return known
    if op.pointwise:
        return pointwise
    if _WINDOWS.search(name):
        return windows
    return fallback


class Propagation:
    """The ids of every tensor of a trace so far."""

    def __init__(self, trace: Trace) -> None:
        self.labels = Labels()
        self.roots: list[Root] = []
        self.sites: list[Site] = []
        self._shapes = trace.shapes
        self._used = trace.used()
        self._values: dict[int, Value] = {}
        for number, name in trace.named.items():
            shape = trace.shapes[number]
            sites = [Site(name, dim, size) for dim, size in enumerate(shape)]
            self.sites.extend(sites)
            fields = {site.dim: Field(None, (site,)) for site in sites}
            self._values[number] = Value(shape, fields, weight=True)

    def __getitem__(self, ref: Ref) -> Value:
        if ref.number not in self._values:  # the input, or a tensor that is no parameter
            self._values[ref.number] = Value(self._shapes[ref.number])
        return self._values[ref.number]

    def shape(self, ref: Ref) -> tuple[int, ...]:
        return self._shapes[ref.number]

    def is_used(self, op: Op) -> bool:
        """Whether the model's outputs depend on what it computes."""
        return any(ref.number in self._used for ref in op.outputs)

    def set(
        self,
        ref: Ref,
        fields: dict[int, Field] | None = None,
        *,
        weight: bool = False,
        flexible: frozenset[int] = frozenset(),
        base: Value | None = None,
    ) -> None:
        """Say what is known about an output. The fields of activations belong to no parameter."""
        fields = dict(fields or {})
        if not weight:
            fields = {dim: self.plain(item, self.shape(ref)[dim]) for dim, item in fields.items()}
        self._values[ref.number] = Value(self.shape(ref), fields, flexible, weight, base)

    def plain(self, item: Field, size: int) -> Field:
        """The ids alone."""
        return Field(self.labels.resolve(item, size)) if item.sites else item

    def ids(self, value: Value, dim: int) -> np.ndarray | None:
        """Ids along a dimension (fresh ones for a parameter that has met nothing); None when it has none."""
        item = value.fields.get(dim)
        return None if item is None else self.labels.resolve(item, value.shape[dim])

    def freeze(self, value: Value, reason: str, dims: Sequence[int] | None = None) -> None:
        """These dimensions (None: all) keep their size."""
        for dim, item in value.fields.items():
            if dims is None or dim in dims:
                self.labels.fix(item, value.shape[dim], reason)

    def join(self, parts: Sequence[tuple[Value, int]], reason: str, *, weight: bool = False) -> Field | None:
        """These dimensions are one and the same; the ids of all of them, or None."""
        fields = [(value.fields[dim], value.shape[dim]) for value, dim in parts if dim in value.fields]
        if not fields:
            return None
        fields.sort(key=lambda item: item[0].ids is None)  # those that have ids give them to the others
        (first, size), others = fields[0], fields[1:]
        if any(dim not in value.fields and dim not in value.flexible for value, dim in parts):
            for item, _ in fields:
                self.labels.fix(item, size, reason)
        for item, _ in others:
            self.labels.join(first, item, size, reason)
        sites = tuple(site for item, _ in fields for site in item.sites) if weight else ()
        return Field(self.labels.resolve(first, size), sites)


@rule(
    *("hardswish", "hardsigmoid", "hardtanh", "relu6", "prelu", "_prelu_kernel", "silu", "mish", "celu", "selu", "elu"),
    *("leaky_relu", "gelu", "softplus", "native_dropout", "dropout", "addcmul", "addcdiv", "lerp", "masked_fill"),
)
def pointwise(state: Propagation, op: Op) -> None:
    """Position by position, with broadcasting: what meets is tied."""
    values = [state[ref] for ref in op.inputs()]
    if not values:
        fallback(state, op)
        return
    for ref in op.outputs:
        elementwise(state, op, values, ref)


def elementwise(state: Propagation, op: Op, values: Sequence[Value], out: Ref) -> None:
    """``out`` has the joined fields of ``values``, aligned from the last dimension."""
    shape = state.shape(out)
    weight = all(value.weight for value in values)
    fields: dict[int, Field] = {}
    flexible: set[int] = set()
    for dim, size in enumerate(shape):
        parts = []
        for value in values:
            own = dim - len(shape) + len(value.shape)
            if own < 0:
                continue
            if value.shape[own] == size:
                parts.append((value, own))
            elif own in value.fields:
                state.freeze(value, f"it is one channel that {describe(op)} spreads over many", [own])
        if parts and all(own in value.flexible for value, own in parts):
            flexible.add(dim)
        reason = f"{describe(op)} combines its channels with numbers that cannot be cut"
        joined = state.join(parts, reason, weight=weight)
        if joined is not None:
            fields[dim] = joined
    previous = state[out] if op.name.endswith("_") else None
    state.set(out, fields, weight=weight, flexible=frozenset(flexible), base=previous.base if previous else None)
    if previous is not None and previous.base is not None:
        write_back(state, op, previous.base, state[out])


def write_back(state: Propagation, op: Op, base: Value, part: Value) -> None:
    """``part`` was written into: what it is a slice of gets its ids, where it has none yet."""
    for dim, item in part.fields.items():
        if dim in base.fields:
            continue
        if base.shape[dim] == part.shape[dim] and dim in base.flexible:
            base.fields[dim] = item
        else:
            state.labels.fix(item, part.shape[dim], f"{describe(op)} writes its channels into a part of another tensor")
    if base.base is not None:
        write_back(state, op, base.base, base)


_WINDOWS = re.compile(r"(pool|upsample|reflection_pad|replication_pad|grid_sampler)[a-z_]*([123])d")


def windows(state: Propagation, op: Op) -> None:
    """Pooling, resampling, mirrored borders: the last one, two or three dimensions mix, the others do not."""
    match = _WINDOWS.search(op.name)
    count = int(match.group(2)) if match else 2
    source = state[op.inputs()[0]]
    rank = len(source.shape)
    state.freeze(source, f"{describe(op)} mixes its channels", range(rank - count, rank))
    for ref in op.inputs()[1:]:
        state.freeze(state[ref], f"{describe(op)} mixes its channels")
    for ref in op.outputs:
        kept = {dim: item for dim, item in source.fields.items() if dim < rank - count}
        state.set(ref, kept if len(state.shape(ref)) == rank else {}, weight=source.weight)


def fallback(state: Propagation, op: Op) -> None:
    """Nothing is known: whatever comes in keeps its size. Constants come from nothing, and may take any size."""
    refs = op.inputs()
    weight = all(state[ref].weight for ref in refs) and bool(refs)
    reason = f"{op.where} is not supported" if op.opaque else f"{describe(op)} is not known to keep channels apart"
    if weight:
        reason = f"a weight of {op.where} is computed from other tensors"
    for ref in refs:
        state.freeze(state[ref], reason)
    for ref in op.outputs:
        if ref not in refs:
            everywhere = frozenset(range(len(state.shape(ref)))) if not refs else frozenset()
            state.set(ref, weight=weight, flexible=everywhere)


def describe(op: Op) -> str:
    """``softmax in Attention 'blocks.0.attn'``."""
    return f"{op.name.strip('_')} in {op.where}"
