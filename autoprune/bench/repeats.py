"""Taking a time again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["seconds"]


def seconds(
    call: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter, *, warm_up: bool = True
) -> list[float]:
    """Seconds of each of ``repeats`` calls; one more before them is not counted unless ``warm_up`` is false."""
    if warm_up:
        call()
    measured = []
    for _ in range(repeats):
        began = clock()
        call()
        measured.append(clock() - began)
    return measured
