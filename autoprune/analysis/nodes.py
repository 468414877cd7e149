"""What each node of a search did: trials, failures, seconds at work, trials a minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoprune.types import TrialState, WorkerTotals

__all__ = ["NodeFigures", "node_figures", "node_of", "nodes_in_words"]


@dataclass(frozen=True)
class NodeFigures:
    """One machine, or one node of Ray's, over a whole search."""

    node: str
    """``ip/id`` as workers have it; ``serial`` for the driver's own process."""
    workers: int
    """Processes that finished a trial there; a replaced one counts beside its replacement."""
    trials: int
    """Finished there, whatever their state; those that were looked up ran nowhere."""
    failures: int
    """FAILED after all retries, the last of them there."""
    busy_seconds: float
    """At work and carrying results, added up over its workers; not what it waited, started or lost by accident."""
    trials_per_minute: float
    """Of the time in which a driver ran the search: nodes add up to the search. NaN where that is not known."""
    share: float
    """Of the search's trials, in [0, 1]."""


def node_of(worker: str) -> str:
    """
    >>> node_of("10.0.0.7/4fda71e3:15074")
    '10.0.0.7/4fda71e3'
    >>> node_of("serial")
    'serial'
    """
    node, colon, _ = worker.rpartition(":")
    return node if colon else worker


def node_figures(totals: Iterable[WorkerTotals], active_seconds: float) -> list[NodeFigures]:
    """By node, the busiest first. ``active_seconds``: how long drivers ran the search."""
    by_node: dict[str, list[WorkerTotals]] = defaultdict(list)
    for each in totals:
        if each.worker and each.state.finished:
            by_node[node_of(each.worker)].append(each)
    everything = sum(each.trials for parts in by_node.values() for each in parts)
    found = []
    for node, parts in by_node.items():
        trials = sum(each.trials for each in parts)
        found.append(
            NodeFigures(
                node=node,
                workers=len({each.worker for each in parts}),
                trials=trials,
                failures=sum(each.trials for each in parts if each.state is TrialState.FAILED),
                busy_seconds=sum(each.seconds for each in parts),
                trials_per_minute=60.0 * trials / active_seconds if active_seconds > 0 else float("nan"),
                share=trials / everything,
            )
        )
    return sorted(found, key=lambda figures: (-figures.trials, figures.node))


def nodes_in_words(nodes: Sequence[NodeFigures]) -> str:
    """One sentence for the end of a run; empty for a search on one node."""
    if len(nodes) < 2:
        return ""
    each = ", ".join(
        f"{node.node} {node.trials} trials ({100 * node.share:.0f} %, {node.trials_per_minute:.1f} a minute"
        + (f", {node.failures} failed)" if node.failures else ")")
        for node in nodes
    )
    return f"{len(nodes)} nodes: {each}"
