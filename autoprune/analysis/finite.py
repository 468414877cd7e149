"""JSON knows no NaN and no infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["finite"]


def finite(content: Any) -> Any:
    """Plain data with null for every number that is not finite.

    >>> finite({"top1": float("nan"), "widths": (8, 16)})
    {'top1': None, 'widths': [8, 16]}
    """
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(key): finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return content
