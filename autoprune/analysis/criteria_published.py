"""Published rank correlations of criteria with the oracle, to be read beside ours.

Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR
2017, Table 1: Spearman's rank correlation of each criterion with the oracle (|change of the loss| when one feature map
is ablated). Networks, data and implementations are others than ours: a reference, not a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CRITERIA", "MEASURES", "SOURCE", "TABLE", "PublishedRow", "published_range"]

SOURCE = "Molchanov et al. 2017 (ICLR), Table 1"

CRITERIA = ("weight", "activation mean", "activation s.d.", "APoZ", "OBD", "Taylor", "mutual information")
MEASURES = ("per layer", "all layers", "all layers, l2")


@dataclass(frozen=True)
class PublishedRow:
    network: str
    measure: str
    """One of ``MEASURES``."""
    values: tuple[float | None, ...]
    """In the order of ``CRITERIA``; None where the paper has none."""


def _rows(network: str, *triples: tuple[float | None, ...]) -> tuple[PublishedRow, ...]:
    padded = [values + (None,) * (len(CRITERIA) - len(values)) for values in triples]
    return tuple(PublishedRow(network, measure, row) for measure, row in zip(MEASURES, padded, strict=True))


TABLE: tuple[PublishedRow, ...] = (
    *_rows(
        "AlexNet / Flowers-102",
        (0.17, 0.65, 0.67, 0.54, 0.64, 0.77),
        (0.28, 0.51, 0.53, 0.41, 0.68, 0.37),
        (0.13, 0.63, 0.61, 0.60, None, 0.75),
    ),
    *_rows(
        "VGG-16 / Birds-200",
        (0.27, 0.56, 0.57, 0.35, 0.59, 0.73, 0.28),
        (0.34, 0.35, 0.30, 0.43, 0.65, 0.14, 0.35),
        (0.33, 0.64, 0.66, 0.51, None, 0.73, 0.47),
    ),
    *_rows(
        "AlexNet / Birds-200",
        (0.36, 0.57, 0.65, 0.42, 0.54, 0.81),
        (0.32, 0.37, 0.51, 0.28, 0.61, 0.37),
        (0.23, 0.54, 0.57, 0.49, None, 0.78),
    ),
    *_rows(
        "VGG-16 / Flowers-102",
        (0.19, 0.51, 0.47, 0.36, 0.21, 0.60),
        (0.35, 0.53, 0.45, 0.61, 0.28, 0.02),
        (0.28, 0.66, 0.65, 0.61, None, 0.70),
    ),
    *_rows(
        "AlexNet / ImageNet",
        (0.57, 0.09, 0.19, -0.06, 0.58, 0.58),
        (0.67, 0.00, 0.13, -0.08, 0.72, 0.11),
        (0.44, 0.10, 0.19, 0.19, None, 0.55),
    ),
)


def published_range(criterion: str) -> Mapping[str, tuple[float, float]]:
    """Measure -> (smallest, largest) over the paper's networks, where it has any. ``criterion``: one of ``CRITERIA``.

    >>> published_range("Taylor")["per layer"]
    (0.58, 0.81)
    """
    place = CRITERIA.index(criterion)
    found: dict[str, tuple[float, float]] = {}
    for measure in MEASURES:
        values = [row.values[place] for row in TABLE if row.measure == measure]
        numbers = [value for value in values if value is not None]
        if numbers:
            found[measure] = (min(numbers), max(numbers))
    return found
