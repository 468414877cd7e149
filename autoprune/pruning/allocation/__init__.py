"""From scores of channels to widths, in steps that go together freely: normaliser, cost penalty, selection.

Scores are one array (units,) float64 a group, larger = keep. Every step is numpy alone and knows no network: the
selection is told what widths cost by a function.
"""

from __future__ import annotations

from autoprune.pruning.allocation.normalising import NORMALISERS, normalise
from autoprune.pruning.allocation.penalty import penalise
from autoprune.pruning.allocation.selection import Choices, Removal, best_units, beyond, global_removal, removed_units

__all__ = [
    "NORMALISERS",
    "Choices",
    "Removal",
    "best_units",
    "beyond",
    "global_removal",
    "normalise",
    "penalise",
    "removed_units",
]
