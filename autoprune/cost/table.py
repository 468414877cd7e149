"""MACs and parameters of any candidate, as one quadratic form of the widths.

Every parameter tensor is a :class:`Term`: its full shape, how often each of its elements is multiplied in one forward
pass, and which groups cut which dimension. A dimension's size is affine in the units kept,

    size_d(u) = full_d - sum_g (units_g - u_g) * positions_(g, d),

and no layer has more than two dimensions that change, so the sum over all tensors of ``applications * prod_d size_d``
is ``c + b.u + u'Qu``. The table adds the terms up once; a million candidates are then two matrix products. All
coefficients are integers, so float64 is exact as long as the costs stay below 2**53.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autoprune.cost import composite
from autoprune.errors import ConfigError, did_you_mean
from autoprune.types import Candidate

__all__ = ["CostTable", "Cut", "QuadraticForm", "Term"]

_CHUNK_ELEMENTS = 1 << 16  # rows * groups at a time: the intermediate products stay in the processor's cache


@dataclass(frozen=True)
class Cut:
    """Group ``group`` (its position in the table) removes ``positions`` positions of ``dim`` per unit it drops."""

    dim: int
    group: int
    positions: int


@dataclass(frozen=True)
class Term:
    """One parameter tensor of the full model."""

    parameter: str
    shape: tuple[int, ...]
    applications: int
    """Multiply-accumulates per element at batch 1: output height * width of a convolution, 1 for a linear layer on a
    vector, the sequence length on a sequence, summed over calls; 0 for what does not multiply (bias, BatchNorm)."""
    cuts: tuple[Cut, ...] = ()

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class QuadraticForm:
    """``cost(w) = constant + linear @ w + w @ matrix @ w`` over widths in channels; ``matrix`` is symmetric."""

    constant: float
    linear: np.ndarray
    matrix: np.ndarray


@dataclass(frozen=True, eq=False)
class CostTable:
    """Costs of candidates over ``groups``; picklable, numpy only. Widths count channels, in the order of ``groups``.

    >>> conv = Term("conv.weight", (8, 3, 3, 3), applications=100, cuts=(Cut(dim=0, group=0, positions=1),))
    >>> head = Term("fc.weight", (10, 8), applications=1, cuts=(Cut(dim=1, group=0, positions=1),))
    >>> table = CostTable(("conv",), np.array([8]), np.array([1]), (conv, head))
    >>> table.macs(np.array([[8], [4]]))
    array([21680., 10840.])
    >>> table.measure(Candidate({"conv": 4}))["params"]
    148.0
    """

    groups: tuple[str, ...]
    channels: np.ndarray
    """Shape (G,), int64: full widths."""
    unit: np.ndarray
    """Shape (G,), int64: channels that leave together (1, or the groups of a grouped convolution)."""
    terms: tuple[Term, ...]
    uncounted: tuple[str, ...] = ()
    """Operations that multiply but belong to no parameter (attention products...), as ``module: operation``."""
    extras: tuple[composite.CostModel, ...] = ()
    """Further cost models over the same groups (latency, memory); their metrics join this table's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", np.asarray(self.channels, dtype=np.int64).reshape(len(self.groups)))
        object.__setattr__(self, "unit", np.asarray(self.unit, dtype=np.int64).reshape(len(self.groups)))

    # --- costs of candidates ---------------------------------------------------------------------------------------

    def macs(self, widths: np.ndarray) -> np.ndarray:
        """Multiply-accumulates of one forward pass at batch 1: widths (N, G) of int -> (N,) float64."""
        return self._evaluate(self._macs, widths)

    def params(self, widths: np.ndarray) -> np.ndarray:
        """Number of parameters: widths (N, G) of int -> (N,) float64."""
        return self._evaluate(self._params, widths)

    def keep_ratio(self, widths: np.ndarray) -> np.ndarray:
        """Channels kept / channels of the full model, over all groups: (N, G) -> (N,) float64; 1 without groups."""
        total = int(self.channels.sum())
        return np.asarray(widths).sum(axis=1) / total if total else np.ones(len(widths))

    def metrics(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """``macs``, ``flops`` (2 * macs), ``params``, ``keep_ratio`` and those of ``extras``.

        Widths (N, G) -> name -> (N,) float64.
        """
        macs = self.macs(widths)
        return {
            "macs": macs,
            "flops": 2.0 * macs,
            "params": self.params(widths),
            "keep_ratio": self.keep_ratio(widths),
            **composite.metrics(self.extras, widths),
        }

    def metric(self, name: str, widths: np.ndarray) -> np.ndarray:
        """One of :meth:`metrics`, (N,) float64, without the others."""
        counted = {"macs": self.macs, "params": self.params, "keep_ratio": self.keep_ratio}
        return counted[name](widths) if name in counted else self.metrics(widths)[name]

    def measure(self, candidate: Candidate) -> dict[str, float]:
        """All metrics of one candidate; groups that it does not name are full.

        Raises ConfigError for a group that the table does not know.
        """
        widths = self.channels.copy()
        index = {name: position for position, name in enumerate(self.groups)}
        for name, width in candidate.widths.items():
            if name not in index:
                raise ConfigError(f"the model has no group {name!r}.", did_you_mean(name, self.groups))
            widths[index[name]] = width
        return {name: float(values[0]) for name, values in self.metrics(widths[None]).items()}

    @cached_property
    def baseline(self) -> dict[str, float]:
        """All metrics of the full model."""
        return self.measure(Candidate({}))

    def share(self) -> np.ndarray:
        """(G,) float64: share of the full model's MACs in layers that the group touches (a layer counts for each)."""
        total = self.baseline["macs"]
        shares = np.zeros(len(self.groups))
        for term in self.terms:
            for group in {cut.group for cut in term.cuts}:
                shares[group] += term.numel * term.applications
        return shares / total if total else shares

    @cached_property
    def prunable(self) -> float:
        """Share of the full model's MACs in layers that any group touches."""
        total = self.baseline["macs"]
        return sum(term.numel * term.applications for term in self.terms if term.cuts) / total if total else 0.0

    # --- for decoders ----------------------------------------------------------------------------------------------

    def form(self, metric: str) -> QuadraticForm:
        """The coefficients of ``macs``, ``flops``, ``params`` or ``keep_ratio``, in channels.

        Raises ConfigError for another metric.
        """
        zeros = np.zeros((len(self.groups), len(self.groups)))
        if metric == "keep_ratio":
            total = int(self.channels.sum())
            share = np.full(len(self.groups), 1.0 / total if total else 0.0)
            return QuadraticForm(0.0 if total else 1.0, share, zeros)
        known = {"macs": (self._macs, 1.0), "flops": (self._macs, 2.0), "params": (self._params, 1.0)}
        if metric not in known:
            raise ConfigError(f"{metric!r} is no function of the widths.", did_you_mean(metric, [*known, "keep_ratio"]))
        form, scale = known[metric]
        unit = self.unit.astype(float)
        return QuadraticForm(
            scale * form.constant, scale * form.linear / unit, scale * form.matrix / np.outer(unit, unit)
        )

    # --- inside ----------------------------------------------------------------------------------------------------

    @cached_property
    def _macs(self) -> QuadraticForm:
        return self._sum([(term, term.applications) for term in self.terms])

    @cached_property
    def _params(self) -> QuadraticForm:
        return self._sum([(term, 1) for term in self.terms])

    def _sum(self, weighted: Sequence[tuple[Term, int]]) -> QuadraticForm:
        """The quadratic form, in units kept, of ``sum weight * numel``."""
        count = len(self.groups)
        constant, linear, matrix = 0.0, np.zeros(count), np.zeros((count, count))
        for term, weight in weighted:
            if not weight:
                continue
            sizes = [self._size(term, dim) for dim in sorted({cut.dim for cut in term.cuts})]
            if len(sizes) > 2:
                raise ConfigError(
                    f"parameter {term.parameter!r} is cut along {len(sizes)} dimensions, at most 2 are supported.",
                    "Exclude one of its groups from the search.",
                )
            cut_dims = {cut.dim for cut in term.cuts}
            fixed = weight * math.prod(size for dim, size in enumerate(term.shape) if dim not in cut_dims)
            (c0, v0), (c1, v1) = [*sizes, (1.0, np.zeros(count)), (1.0, np.zeros(count))][:2]
            constant += fixed * c0 * c1
            linear += fixed * (c0 * v1 + c1 * v0)
            if len(sizes) == 2:
                rows, columns = np.flatnonzero(v0), np.flatnonzero(v1)
                matrix[np.ix_(rows, columns)] += fixed * np.outer(v0[rows], v1[columns])
        return QuadraticForm(constant, linear, (matrix + matrix.T) / 2)

    def _size(self, term: Term, dim: int) -> tuple[float, np.ndarray]:
        """Size of one dimension as (constant, coefficient of each group's units)."""
        coefficients = np.zeros(len(self.groups))
        constant = float(term.shape[dim])
        for cut in term.cuts:
            if cut.dim == dim:
                coefficients[cut.group] += cut.positions
                constant -= cut.positions * int(self.channels[cut.group] // self.unit[cut.group])
        return constant, coefficients

    def _evaluate(self, form: QuadraticForm, widths: np.ndarray) -> np.ndarray:
        widths = np.asarray(widths)
        if widths.ndim != 2 or widths.shape[1] != len(self.groups):
            raise ValueError(f"widths must have shape (N, {len(self.groups)}), got {widths.shape}")
        result = np.empty(len(widths))
        step = max(1, _CHUNK_ELEMENTS // max(1, len(self.groups)))
        scale = None if (self.unit == 1).all() else self.unit.astype(float)
        for start in range(0, len(widths), step):
            units = widths[start : start + step].astype(float)
            if scale is not None:
                units /= scale
            product = units @ form.matrix
            product += form.linear
            np.einsum("ng,ng->n", product, units, out=result[start : start + step])
        result += form.constant
        return result
