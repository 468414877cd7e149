"""What a session asks about a trial that runs: does it go on?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from autoprune.types import Measurement, Outcome, Trial

__all__ = ["Stopper"]


class Stopper(Protocol):
    """A rule that ends trials early. Not safe for threads: the session holds its lock."""

    def begin(self, number: int, costs: Mapping[str, float]) -> None:
        """A trial starts, or starts again after an accident."""
        ...

    def goes_on(self, number: int, measurement: Measurement, front: Sequence[Trial]) -> bool:
        """What it measured so far, and the front at that time; False stops it."""
        ...

    def marked(self, number: int, outcome: Outcome) -> Outcome:
        """The outcome of a trial that was stopped, with the reason and how far it came."""
        ...

    def end(self, trial: Trial) -> None:
        """A finished trial, whether it ran, was looked up, or comes from the store on resume, in order of finishing."""
        ...
