"""Rules of what moves positions: views, concatenation, selection, padding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from autoprune.pruning.labels import Field
from autoprune.pruning.rules import Propagation, Value, describe, rule, write_back
from autoprune.pruning.tracing import Op, Ref

__all__: list[str] = []


@rule("detach", "alias", "_to_copy", "lift_fresh", "lift_fresh_copy", "lift", "clone", "fill", "zero", "contiguous")
def same(state: Propagation, op: Op) -> None:
    source = state[op.inputs()[0]]
    base = source.base if op.name.endswith("_") else None
    state.set(op.outputs[0], source.fields, weight=source.weight, flexible=source.flexible, base=base)


@rule("copy")
def copy(state: Propagation, op: Op) -> None:
    """``target.copy_(source)``: the target takes the source's ids."""
    target, source = state[op.get("self")], state[op.get("src")]
    shift = len(target.shape) - len(source.shape)
    for dim in list(source.fields):
        own = dim + shift
        if own in target.fields:
            state.join([(target, own), (source, dim)], _fixed(op))
        elif own in target.flexible and target.shape[own] == source.shape[dim]:
            target.fields[own] = state.plain(source.fields[dim], source.shape[dim])
        else:
            state.freeze(source, f"{describe(op)} writes its channels into a tensor of fixed size", [dim])
    if target.base is not None:
        write_back(state, op, target.base, target)


# --- views ---------------------------------------------------------------------------------------------------------


@rule("permute", "transpose", "t")
def permute(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    rank = len(source.shape)
    order = list(range(rank))
    if op.name.startswith("permute"):
        order = [dim % rank for dim in op.get("dims")]
    elif rank > 1:
        first, second = op.get("dim0", 0) % rank, op.get("dim1", 1) % rank
        order[first], order[second] = order[second], order[first]
    _move(state, op, source, {old: new for new, old in enumerate(order)})


@rule("unsqueeze")
def unsqueeze(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    at = op.get("dim") % (len(source.shape) + 1)
    _move(state, op, source, {dim: dim + (dim >= at) for dim in range(len(source.shape))})


@rule("squeeze")
def squeeze(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    rank, given = len(source.shape), op.get("dim")
    asked = range(rank) if given is None else given if isinstance(given, tuple) else (given,)
    gone = {dim % rank for dim in asked if source.shape[dim] == 1}
    kept = [dim for dim in range(rank) if dim not in gone]
    _move(state, op, source, {old: new for new, old in enumerate(kept)})


def _move(state: Propagation, op: Op, source: Value, place: dict[int, int]) -> None:
    """Dimension ``d`` becomes ``place[d]``; those of one position that are not named disappear."""
    state.freeze(source, "it has one channel", [dim for dim in source.fields if dim not in place])
    fields = {place[dim]: item for dim, item in source.fields.items() if dim in place}
    flexible = frozenset(place[dim] for dim in source.flexible if dim in place)
    state.set(op.outputs[0], fields, weight=source.weight, flexible=flexible)


@rule("expand")
def expand(state: Propagation, op: Op) -> None:
    source, shape = state[op.get("self")], state.shape(op.outputs[0])
    shift = len(shape) - len(source.shape)
    spread = [dim for dim, size in enumerate(source.shape) if size != shape[dim + shift]]
    state.freeze(source, f"{describe(op)} spreads its one channel", spread)
    fields = {dim + shift: item for dim, item in source.fields.items() if dim not in spread}
    flexible = {dim + shift for dim in (*source.flexible, *spread)} | set(range(shift))
    state.set(op.outputs[0], fields, weight=source.weight, flexible=frozenset(flexible))


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy", "view_copy")
def reshape(state: Propagation, op: Op) -> None:
    """Dimensions merge and split; only the smallest runs of dimensions that do so together are looked at."""
    source, shape = state[op.get("self")], state.shape(op.outputs[0])
    fields: dict[int, Field] = {}
    flexible: set[int] = set()
    seen: set[int] = set()
    for old, new in _blocks(source.shape, shape):
        seen.update(old)
        if len(old) == len(new) == 1:
            if old[0] in source.fields:
                fields[new[0]] = source.fields[old[0]]
            if old[0] in source.flexible:
                flexible.add(new[0])
            continue
        if all(dim in source.flexible for dim in old):
            flexible.update(new)
        for dim in sorted(set(old) & source.fields.keys(), key=lambda dim: source.shape[dim]):
            ids = state.ids(source, dim)
            assert ids is not None
            grid = ids.reshape([-1 if other == dim else 1 for other in old])
            grid = np.broadcast_to(grid, [source.shape[other] for other in old]).reshape([shape[d] for d in new])
            place, kept = _one_dimension(state, op, grid)
            if new[place] in fields:
                state.labels.freeze(state.labels.resolve(fields[new[place]], 0), f"{describe(op)} merges two widths")
            fields[new[place]] = Field(kept)
    state.freeze(source, "it has one channel", [dim for dim in source.fields if dim not in seen])
    state.set(op.outputs[0], fields, weight=source.weight, flexible=frozenset(flexible))


def _blocks(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of dimensions of more than one position with equal products."""
    olds = [dim for dim, size in enumerate(old) if size != 1]
    news = [dim for dim, size in enumerate(new) if size != 1]
    while olds and news:
        left, right = [olds.pop(0)], [news.pop(0)]
        a, b = old[left[0]], new[right[0]]
        while a != b:
            if a < b:
                left.append(olds.pop(0))
                a *= old[left[-1]]
            else:
                right.append(news.pop(0))
                b *= new[right[-1]]
        yield left, right


def _one_dimension(state: Propagation, op: Op, grid: np.ndarray) -> tuple[int, np.ndarray]:
    """(the dimension of the grid along which the ids go on, its ids).

    Where they differ along several dimensions, as after splitting channels into (groups, channels of a group), cutting
    must leave a full grid: the largest dimension is cut, and what differs along the others is tied. Attention splits
    channels into (..., heads, head_dim): whole heads are cut.
    """
    if op.heads and grid.shape[-2:] == op.heads:
        return grid.ndim - 2, _tied(state, op, grid, grid.ndim - 2)
    for dim in range(grid.ndim):
        kept = _line(grid, dim)
        if (grid == _spread(kept, grid, dim)).all():
            return dim, kept.copy()
    dim = max(range(grid.ndim), key=lambda dim: (grid.shape[dim], dim))
    return dim, _tied(state, op, grid, dim)


def _tied(state: Propagation, op: Op, grid: np.ndarray, dim: int) -> np.ndarray:
    """The ids along ``dim``; what differs along the other dimensions is tied."""
    kept = _line(grid, dim).copy()
    state.labels.tie(grid, np.broadcast_to(_spread(kept, grid, dim), grid.shape), _fixed(op))
    return kept


def _line(grid: np.ndarray, dim: int) -> np.ndarray:
    line: np.ndarray = grid[tuple(slice(None) if other == dim else 0 for other in range(grid.ndim))]
    return line


def _spread(line: np.ndarray, grid: np.ndarray, dim: int) -> np.ndarray:
    return line.reshape([-1 if other == dim else 1 for other in range(grid.ndim)])


# --- joining and parting -------------------------------------------------------------------------------------------


@rule("cat", "concat")
def concat(state: Propagation, op: Op) -> None:
    values = [value for value in (state[ref] for ref in op.inputs()) if math.prod(value.shape)]
    rank = len(values[0].shape)
    along = op.get("dim", 0) % rank
    fields: dict[int, Field] = {}
    for dim in range(rank):
        if dim != along:
            joined = state.join([(value, dim) for value in values], _fixed(op))
            if joined is not None:
                fields[dim] = joined
        elif any(dim in value.fields for value in values):
            zeros = [np.zeros(value.shape[dim], dtype=np.int64) for value in values]
            parts = [state.ids(value, dim) for value in values]
            fields[dim] = Field(np.concatenate([z if p is None else p for z, p in zip(zeros, parts, strict=True)]))
    flexible = frozenset.intersection(*(value.flexible for value in values))
    state.set(op.outputs[0], fields, flexible=flexible)


@rule("stack")
def stack(state: Propagation, op: Op) -> None:
    values = [state[ref] for ref in op.inputs()]
    rank = len(values[0].shape)
    at = op.get("dim", 0) % (rank + 1)
    fields = {}
    for dim in range(rank):
        joined = state.join([(value, dim) for value in values], _fixed(op))
        if joined is not None:
            fields[dim + (dim >= at)] = joined
    state.set(op.outputs[0], fields)


@rule("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "split_copy", "unsafe_split_with_sizes")
def split(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    along = op.get("dim", 0) % len(source.shape)
    start = 0
    for ref in op.outputs:
        size = state.shape(ref)[along]
        _part(state, op, ref, source, along, slice(start, start + size))
        start += size


@rule("slice")
def cut_out(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    along = op.get("dim", 0) % len(source.shape)
    span = slice(op.get("start"), op.get("end"), op.get("step", 1))
    _part(state, op, op.outputs[0], source, along, span)


def _part(state: Propagation, op: Op, ref: Ref, source: Value, along: int, span: slice) -> None:
    """A range of one dimension. Equal parts of channels must stay equal, so their positions are tied."""
    size = source.shape[along]
    start, stop, step = span.indices(size)
    length = state.shape(ref)[along]
    fields = dict(source.fields)
    ids = state.ids(source, along) if length < size else None
    if ids is not None:
        if step == 1 and size % length == 0 and start % length == 0:
            rows = ids.reshape(-1, length)
            state.labels.tie(rows, np.broadcast_to(rows[0], rows.shape), _fixed(op))
        fields[along] = Field(ids[start:stop:step].copy())
    state.set(ref, fields, weight=source.weight, flexible=source.flexible, base=source)


@rule("select", "unbind")
def select(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    along = op.get("dim", 0) % len(source.shape)
    state.freeze(source, f"{describe(op)} picks channels by number", [along])
    for ref in op.outputs:
        place = {dim: dim - (dim > along) for dim in range(len(source.shape)) if dim != along}
        fields = {place[dim]: item for dim, item in source.fields.items() if dim in place}
        flexible = frozenset(place[dim] for dim in source.flexible if dim in place)
        state.set(ref, fields, weight=source.weight, flexible=flexible)


@rule("index_select")
def index_select(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    along = op.get("dim") % len(source.shape)
    state.freeze(source, f"{describe(op)} picks channels by number", [along])
    state.set(op.outputs[0], {dim: item for dim, item in source.fields.items() if dim != along}, weight=source.weight)


@rule("repeat")
def repeat(state: Propagation, op: Op) -> None:
    source, times = state[op.get("self")], op.get("repeats")
    shift = len(times) - len(source.shape)
    fields = {}
    for dim, item in source.fields.items():
        count, size = times[dim + shift], source.shape[dim]
        fields[dim + shift] = item if count == 1 else Field(np.tile(state.labels.resolve(item, size), count))
    state.set(op.outputs[0], fields, weight=source.weight)


@rule("constant_pad_nd", "pad")
def pad(state: Propagation, op: Op) -> None:
    """Channels that meet a constant number of padded zeros cannot shrink ("option A" shortcuts)."""
    source, pads = state[op.get("self")], op.get("pad")
    rank = len(source.shape)
    padded = [rank - 1 - number // 2 for number, count in enumerate(pads) if count]
    reason = f"{op.where} adds a fixed number of zero channels"
    state.freeze(source, reason, padded)
    fields = {dim: item for dim, item in source.fields.items() if dim not in padded}
    for dim in {dim for dim in padded if dim in source.fields}:
        before, after = pads[2 * (rank - 1 - dim)], pads[2 * (rank - 1 - dim) + 1]
        ids = state.labels.resolve(source.fields[dim], source.shape[dim])
        if min(before, after) >= 0:
            zeros = state.labels.new(before + after)
            state.labels.freeze(zeros, reason)
            fields[dim] = Field(np.concatenate([zeros[:before], ids, zeros[before:]]))
    state.set(op.outputs[0], fields, weight=source.weight)


# --- between channels and pixels -----------------------------------------------------------------------------------


@rule("pixel_shuffle")
def pixel_shuffle(state: Propagation, op: Op) -> None:
    """Each channel of the result is made of factor * factor channels, which leave together."""
    _channels(state, op, op.get("upscale_factor") ** 2)


@rule("pixel_unshuffle")
def pixel_unshuffle(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    dim = len(source.shape) - 3
    ids = state.ids(source, dim)
    fields = {} if ids is None else {dim: Field(np.repeat(ids, op.get("downscale_factor") ** 2))}
    state.set(op.outputs[0], fields)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(state: Propagation, op: Op) -> None:
    source = state[op.get("self")]
    ids = state.ids(source, 1)
    fields = dict(source.fields)
    if ids is not None:
        rows = ids.reshape(op.get("groups"), -1)
        state.labels.tie(rows, np.broadcast_to(rows[0], rows.shape), _fixed(op))
        fields[1] = Field(rows.T.ravel())
    state.set(op.outputs[0], fields)


def _channels(state: Propagation, op: Op, together: int) -> None:
    source = state[op.get("self")]
    dim = len(source.shape) - 3
    ids = state.ids(source, dim)
    fields = {}
    if ids is not None:
        rows = ids.reshape(-1, together)
        state.labels.tie(rows, np.broadcast_to(rows[:, :1], rows.shape), _fixed(op))
        fields[dim] = Field(rows[:, 0].copy())
    state.set(op.outputs[0], fields)


def _fixed(op: Op) -> str:
    return f"{describe(op)} combines its channels with numbers that cannot be cut"
