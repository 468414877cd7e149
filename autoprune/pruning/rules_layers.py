"""Rules of what multiplies, normalises and reduces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprune.pruning.labels import Field
from autoprune.pruning.rules import Propagation, Root, Value, describe, elementwise, rule
from autoprune.pruning.tracing import Op, Ref

__all__: list[str] = []


# --- products ------------------------------------------------------------------------------------------------------


@rule("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution")
def convolution(state: Propagation, op: Op) -> None:
    source, weight = state[op.get("input")], state[op.get("weight")]
    out = op.outputs[0]
    groups, channels = op.get("groups", 1), source.shape[1]
    state.freeze(source, f"{op.where} convolves along its channels", [0, *range(2, len(source.shape))])
    state.freeze(weight, f"{op.where} convolves along its channels", range(2, len(weight.shape)))
    if not weight.weight:
        reason = f"the weights of {op.where} are no parameters"
        for value in (source, weight):
            state.freeze(value, reason)
        state.set(out, {1: Field(_stay(state, op, state.shape(out)[1], reason))})
        return
    if groups > 1 and groups == channels:
        made = _depthwise(state, op, source, weight)
    elif 1 < groups == state.shape(out)[1]:
        for value in (source, weight):
            state.freeze(value, f"{op.where} merges several channels in each of its groups")
        made = _frozen(state, op, weight, 0, "")
    else:
        made = _grouped(state, op, source, weight)
    bias = op.get("bias")
    if bias is not None:
        made = state.join([(Value(state.shape(out), {1: made}), 1), (state[bias], 0)], _fixed(op)) or made
    state.set(out, {1: made})
    _note_root(state, weight, 1 if op.get("transposed") else 0, state[out], 1)


def _grouped(state: Propagation, op: Op, source: Value, weight: Value) -> Field:
    """Every group of the convolution reads, and makes, equally many channels: the same place in each is one unit."""
    groups, transposed = op.get("groups", 1), op.get("transposed", False)
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    ids = state.ids(source, 1)
    if ids is not None and groups > 1:
        rows = ids.reshape(groups, -1)
        state.labels.tie(rows, np.broadcast_to(rows[0], rows.shape), _fixed(op))
        if not transposed:
            ids = rows[0].copy()
    size = weight.shape[in_dim]
    fields = {} if ids is None else {0: Field(ids)}
    _read(state, op, Value((size,), fields), 0, weight, in_dim)
    made = _made(state, op, weight, out_dim)
    if groups > 1 and not transposed:
        rows = made.reshape(groups, -1)
        state.labels.tie(rows, np.broadcast_to(rows[0], rows.shape), _fixed(op))
    return Field(np.tile(made, groups) if transposed else made)


def _depthwise(state: Propagation, op: Op, source: Value, weight: Value) -> Field:
    """Each input channel has its own filters, one or several, which leave with it."""
    size = state.shape(op.outputs[0])[1]
    multiplier = size // source.shape[1]
    ids = state.ids(source, 1)
    if ids is None:
        return _frozen(state, op, weight, 0, "it is depthwise, and the channels that it reads cannot be cut")
    spread = np.repeat(ids, multiplier) if multiplier > 1 else ids
    filters = ids if op.get("transposed") else spread
    part = Value((len(filters),), {0: Field(filters)})
    if weight.shape[0] != len(filters):
        state.freeze(part, _fixed(op))
    else:
        state.join([(part, 0), (weight, 0)], _fixed(op))
    return Field(spread)


def _frozen(state: Propagation, op: Op, weight: Value, dim: int, reason: str) -> Field:
    """Output channels of their own, which cannot be cut."""
    size = state.shape(op.outputs[0])[1]
    ids = state.ids(weight, dim) if weight.shape[dim] == size else None
    ids = state.labels.new(size) if ids is None else ids
    if reason:
        state.labels.freeze(ids, reason)
    return Field(ids)


def _read(state: Propagation, op: Op, source: Value, dim: int, weight: Value, weight_dim: int) -> None:
    """``weight`` sums over ``dim`` of ``source``: a channel that is cut leaves a column of the weight without use."""
    item, column = source.fields.get(dim), weight.fields.get(weight_dim)
    reads = f"the weight of {op.where}, which reads its channels,"
    if column is None or not column.sites:
        state.freeze(source, f"{reads} {_computed(op)}", [dim])
        return
    if item is not None and column.ids is not None and not column.ids.any():
        state.freeze(source, f"{reads} is also used where it cannot be cut", [dim])
        return
    for site in column.sites:
        site.roles.add("consumer")
    if item is None:
        state.freeze(weight, _fixed(op), [weight_dim])
    else:
        state.join([(source, dim), (weight, weight_dim)], _fixed(op))


def _made(state: Propagation, op: Op, weight: Value, dim: int) -> np.ndarray:
    """Ids of the channels that a weight makes; frozen, under its layer's name, where the weight keeps its size."""
    ids = state.ids(weight, dim)
    if ids is not None and ids.any():
        for site in weight.fields[dim].sites:
            site.roles.add("producer")
        return ids
    used = "is also used where it cannot be cut"
    computed = ids is None or op.where.startswith("Parametrized")
    return _stay(state, op, weight.shape[dim], f"the weight of {op.where} {_computed(op) if computed else used}")


def _computed(op: Op) -> str:
    if op.where.startswith("Parametrized"):
        return "is computed from other tensors (torch.nn.utils.parametrize.remove_parametrizations ends that)"
    return "is computed from other tensors"


def _stay(state: Propagation, op: Op, size: int, reason: str) -> np.ndarray:
    """Ids of channels that a layer makes and that cannot be cut."""
    ids = state.labels.new(size)
    state.labels.freeze(ids, reason)
    state.roots.append(Root(op.path, ids))
    return ids


def _note_root(state: Propagation, weight: Value, dim: int, out: Value, out_dim: int) -> None:
    ids = state.ids(out, out_dim)
    made = weight.fields.get(dim)
    if ids is not None and made is not None and made.sites:
        names = [site.parameter for site in made.sites]
        state.roots.append(Root(_layer(next((name for name in names if name.endswith("weight")), names[0])), ids))


def _layer(parameter: str) -> str:
    """The name of the layer that owns a weight."""
    path, computed, _ = parameter.partition(".parametrizations.")
    if computed:
        return path
    path, _, attribute = parameter.rpartition(".")
    return path if attribute in ("weight", "weight_v", "weight_orig", "in_proj_weight") and path else parameter


def _fixed(op: Op) -> str:
    return f"{op.where} combines its channels with numbers that cannot be cut"


@rule("mm", "addmm", "bmm", "baddbmm")
def product(state: Propagation, op: Op) -> None:
    """(..., rows, inner) x (..., inner, columns)."""
    left, right = (state[ref] for ref in op.inputs()[-2:])
    out, rank = op.outputs[0], len(left.shape)
    rows, inner, columns = (left, rank - 2), ((left, rank - 1), (right, rank - 2)), (right, rank - 1)
    if left.weight == right.weight:
        for value, dim in inner:
            state.freeze(value, f"{describe(op)} multiplies two activations", [dim])
    elif right.weight:
        _read(state, op, *inner[0], *inner[1])
    else:
        _read(state, op, *inner[1], *inner[0])
    fields = {}
    for dim, (value, own) in ((rank - 2, rows), (rank - 1, columns)):
        if value.weight and left.weight != right.weight:
            fields[dim] = Field(_made(state, op, value, own))
        elif own in value.fields:
            fields[dim] = state.plain(value.fields[own], value.shape[own])
    if rank == 3:
        batch = state.join([(left, 0), (right, 0)], _fixed(op))
        if batch is not None:
            fields[0] = batch
    state.set(out, fields)
    if len(op.inputs()) == 3:
        elementwise(state, op, [state[out], state[op.inputs()[0]]], out)
    if left.weight != right.weight:
        weight, own, dim = (right, rank - 1, rank - 1) if right.weight else (left, rank - 2, rank - 2)
        _note_root(state, weight, own, state[out], dim)


@rule("_weight_norm_interface")
def weight_norm(state: Propagation, op: Op) -> None:
    """g * v / |v|, one norm per position of ``dim``."""
    directions, gains, dim = state[op.get("v")], state[op.get("g")], op.get("dim", 0)
    others = [other for other in range(len(directions.shape)) if other != dim]
    state.freeze(directions, f"{op.where} normalises across channels", others)
    joined = state.join([(directions, dim), (gains, dim)], _fixed(op), weight=True)
    state.set(op.outputs[0], {dim: joined} if joined else {}, weight=True)


# --- normalisation -------------------------------------------------------------------------------------------------


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional",
    "cudnn_batch_norm",
    "_batch_norm_no_update",
)
def batch_norm(state: Propagation, op: Op) -> None:
    source = state[op.inputs()[0]]
    if op.get("training") or op.get("running_mean") is None:
        others = [dim for dim in source.fields if dim != 1]
        state.freeze(source, f"{op.where} normalises across channels", others)
    _normalise(state, op, source, 1)


@rule("native_group_norm")
def group_norm(state: Propagation, op: Op) -> None:
    """The statistics of a group stay right only when all of it stays, or all of it leaves."""
    source, groups = state[op.get("input")], op.get("group")
    ids = state.ids(source, 1)
    if ids is not None:
        rows = ids.reshape(groups, -1)
        state.labels.tie(rows, np.broadcast_to(rows[:, :1], rows.shape), _fixed(op))
    state.freeze(source, f"{op.where} normalises across channels", range(2, len(source.shape)))
    _normalise(state, op, source, 1)


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(state: Propagation, op: Op) -> None:
    source = state[op.inputs()[0]]
    last = len(op.get("normalized_shape", (1,)))
    _mixes(state, source, range(len(source.shape) - last, len(source.shape)), f"{op.where} normalises across channels")
    for ref in op.inputs()[1:]:
        state.freeze(state[ref], _fixed(op))
    _pass_on(state, op, source)


def _normalise(state: Propagation, op: Op, source: Value, dim: int) -> None:
    """Every further input has one number a channel."""
    parts = [(source, dim), *((state[ref], 0) for ref in op.inputs()[1:])]
    weight = all(value.weight for value, _ in parts)
    joined = state.join(parts, _fixed(op), weight=weight)
    fields = {**source.fields, **({dim: joined} if joined else {})}
    state.set(op.outputs[0], fields, weight=weight)
    for ref in op.outputs[1:]:
        state.set(ref)


# --- reductions ----------------------------------------------------------------------------------------------------


@rule(
    *("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "prod", "logsumexp"),
    *("linalg_vector_norm", "norm", "argmax", "argmin", "any", "all", "median"),
)
def reduce(state: Propagation, op: Op) -> None:
    refs = op.inputs()
    if len(refs) == 2:  # the larger of two tensors
        elementwise(state, op, [state[ref] for ref in refs], op.outputs[0])
        return
    source = state[refs[0]]
    rank = len(source.shape)
    dims = _dims(op.get("dim"), rank) or list(range(rank))
    if state.is_used(op):  # attention returns the mean over its heads, and most callers drop it
        _mixes(state, source, dims, f"{describe(op)} runs across channels")
    for ref in op.outputs:
        keep = len(state.shape(ref)) == rank
        left = [dim for dim in range(rank) if dim not in dims]
        place = {dim: dim if keep else number for number, dim in enumerate(left)}
        fields = {place[dim]: item for dim, item in source.fields.items() if dim in place}
        flexible = frozenset(place[dim] for dim in source.flexible if dim in place)
        state.set(ref, fields, weight=source.weight, flexible=flexible)


@rule(
    *("_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "logcumsumexp", "sort", "topk", "flip"),
    *("roll", "renorm", "_fft_r2c", "_fft_c2r", "_fft_c2c"),
)
def along(state: Propagation, op: Op) -> None:
    """Mixes or moves the positions of some dimensions, and lets the others alone."""
    source = state[op.inputs()[0]]
    given = op.get("dim", op.get("dims"))
    dims = _dims(given, len(source.shape)) or list(range(len(source.shape)))
    _mixes(state, source, dims, f"{describe(op)} runs across channels")
    _pass_on(state, op, source)


def _mixes(state: Propagation, source: Value, dims: Sequence[int], reason: str) -> None:
    state.freeze(source, reason, list(dims))


def _pass_on(state: Propagation, op: Op, source: Value) -> None:
    for ref in op.outputs:
        shape = state.shape(ref)
        same = len(shape) == len(source.shape)
        fields = {dim: item for dim, item in source.fields.items() if same and shape[dim] == source.shape[dim]}
        state.set(ref, fields, weight=source.weight, flexible=source.flexible if same else frozenset())


def _dims(given: object, rank: int) -> list[int]:
    if given is None:
        return []
    items = given if isinstance(given, tuple | list) else (given,)
    return [int(item) % max(rank, 1) for item in items]


@rule("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "bernoulli")
def like(state: Propagation, op: Op) -> None:
    source: Ref = op.inputs()[0]
    state.set(op.outputs[0], dict(state[source].fields))


@rule("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided")
def new(state: Propagation, op: Op) -> None:
    state.set(op.outputs[0], flexible=frozenset(range(len(state.shape(op.outputs[0])))))
