"""How long a user's queries take on the store of a simulated search; run by ``scale.py`` in a process of its own."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from scale_search import NAME

from autoprune import api
from autoprune.api.reader import Reader
from autoprune.api.views import front_view
from autoprune.store import open_store
from autoprune.store.paging import Page, trials_page

__all__ = ["timed"]

BUDGETS = ["macs <= 0.5 * baseline", "params <= 0.6 * baseline"]
_REPEATS = 3


def timed(url: str) -> dict[str, object]:
    """Median milliseconds of each query, by the clock and of the processor; every call opens the store."""

    def three_axes() -> object:
        reader = Reader(url)
        try:
            return front_view(reader, NAME, x="macs", y="top1", z="params").members
        finally:
            reader.close()

    def page() -> object:
        with open_store(url, read_only=True) as store:
            return trials_page(store, NAME, Page(limit=100, descending=True))

    def equal() -> object:
        with open_store(url, read_only=True) as store:
            return store.lookup("scale", store.trial(NAME, 7).candidate.digest)

    calls: dict[str, Callable[[], object]] = {
        "front, two axes": lambda: api.front(NAME, store=url),
        "front under two budgets": lambda: api.front(NAME, where=BUDGETS, store=url),
        "front, three axes": three_axes,
        "select under two budgets": lambda: api.select(NAME, where=BUDGETS, store=url),
        "hypervolume history": lambda: api.history(NAME, store=url),
        "latest hundred trials": page,
        "list of searches": lambda: api.searches(store=url),
        "look-up of an equal candidate": equal,
    }
    result: dict[str, object] = {"front": len(api.front(NAME, store=url).trials)}
    result.update({what: _median(call, _REPEATS) for what, call in calls.items()})
    with tempfile.TemporaryDirectory() as folder:
        result["report"] = _median(lambda: api.report(NAME, store=url, out=folder), 1)
    return result


def _median(call: Callable[[], object], repeats: int) -> list[float]:
    clock, busy = [], []
    for _ in range(repeats):
        began, began_busy = time.perf_counter(), time.process_time()
        call()
        clock.append(1e3 * (time.perf_counter() - began))
        busy.append(1e3 * (time.process_time() - began_busy))
    return [round(statistics.median(clock), 1), round(statistics.median(busy), 1)]


if __name__ == "__main__":
    print(json.dumps(timed(sys.argv[1])))
