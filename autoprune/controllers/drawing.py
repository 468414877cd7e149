"""What controllers that draw at random share: spreading proposals over the costs, and not repeating themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from autoprune.space import Decoder, SearchSpace
from autoprune.space.decoding import METRICS
from autoprune.types import Candidate, Objective, Trial

__all__ = ["Aim", "Proposed", "draw"]

_MEASURED_COSTS = ("_ms", "_seconds", "_bytes")


class Aim:
    """Places candidates along one cost, so that a front is covered evenly.

    Independent widths have nearly the same cost once there are many groups (their sum concentrates around its mean);
    a candidate is therefore drawn as proportions and a share of the reachable cost. The cost is the first objective
    that is a function of the widths; MACs stand in for a cost that is only measured (``latency_ms``). A search for
    accuracy alone has no such axis, and candidates are only decoded.
    """

    def __init__(self, decoder: Decoder, objectives: Sequence[Objective]) -> None:
        self._decoder = decoder
        metrics = [item.metric for item in objectives if item.direction == "min"]
        counted = [name for name in metrics if name in METRICS]
        measured = any(name.endswith(_MEASURED_COSTS) for name in metrics)
        self.metric: str | None = counted[0] if counted else "macs" if measured else None
        self._low, self._high = decoder.cost_range(self.metric) if self.metric else (0.0, 0.0)

    def place(self, candidate: Candidate, share: float) -> Candidate:
        """The candidate decoded to ``share`` in [0, 1] of the way from the lowest reachable cost to the highest."""
        if self.metric is None:
            return self._decoder.decode(candidate)
        return self._decoder.decode_to(candidate, self.metric, self._low + share * (self._high - self._low))

    def share(self, candidate: Candidate) -> float:
        """Where a candidate lies, in [0, 1]."""
        if self.metric is None or self._high <= self._low:
            return 0.0
        cost = self._decoder.space.cost.measure(candidate)[self.metric]
        return min(1.0, max(0.0, (cost - self._low) / (self._high - self._low)))


class Proposed:
    """Digests of everything proposed so far, whatever became of it."""

    def __init__(self, space: SearchSpace) -> None:
        self._size = space.size
        self._digests: set[str] = set()

    def restore(self, history: Iterable[Trial]) -> None:
        self._digests = {trial.candidate.digest for trial in history}

    @property
    def everything(self) -> bool:
        """The whole space has been proposed."""
        return len(self._digests) >= self._size

    def first_new(self, attempts: Iterable[Callable[[], Candidate]]) -> Candidate:
        """The first attempt that was not proposed before, or the last one; it counts as proposed from now on."""
        candidate: Candidate | None = None
        for attempt in attempts:
            candidate = attempt()
            if candidate.digest not in self._digests:
                break
        if candidate is None:
            raise ValueError("first_new needs at least one attempt")
        self._digests.add(candidate.digest)
        return candidate


def draw(space: SearchSpace, aim: Aim, rng: np.random.Generator) -> Candidate:
    """Each width uniform over those allowed, the whole then placed at a uniform share of the cost."""
    widths = {item.name: item.allowed[int(rng.integers(len(item.allowed)))] for item in space.dimensions}
    return aim.place(Candidate(widths), float(rng.uniform()))
