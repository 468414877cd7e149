"""Which widths a search may try: the space, its rules, and decoding of any proposal into the budgets."""

from __future__ import annotations

from autoprune.space.decoding import Decoder
from autoprune.space.space import Dimension, SearchSpace

__all__ = ["Decoder", "Dimension", "SearchSpace"]
