"""The verbs. Protocols, not base classes; a contract test runs over every registered implementation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from autoprune.types import Candidate, Measurement, Outcome, Proposal, Trial

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from autoprune.types import ChannelGroup

__all__ = [
    "AskTell",
    "Controller",
    "Criterion",
    "Evaluator",
    "Executor",
    "KnowsDigests",
    "KnownStatistics",
    "Observer",
    "Progress",
    "Statistic",
    "WeightSource",
]


class Controller(Protocol):
    """Proposes candidates. Its randomness is a function of (seed, trial number): resuming needs no generator state."""

    def ask(self, number: int) -> Proposal | None:
        """The proposal for trial ``number``; None: not now (tell running trials first), or never if ``exhausted``."""
        ...

    @property
    def exhausted(self) -> bool:
        """True when no further proposal will ever come (a grid at its end)."""
        ...

    def tell(self, trial: Trial) -> None:
        """A finished trial, in order of finishing. FAILED trials are told too and must teach nothing.

        A STOPPED trial's metrics are estimates of a candidate that lies below the front: worth learning from.
        """
        ...

    def state(self) -> Mapping[str, Any]:
        """JSON that, with the history, restores the controller: equal state and history => equal proposals."""
        ...

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        """Restore from ``state()`` and all stored trials (finished in order of finishing, then running by number)."""
        ...


@runtime_checkable
class KnowsDigests(Protocol):
    """A history that tells its candidates' digests without reading its trials: all that some controllers ask for."""

    def digests(self) -> Iterator[str]: ...


class Evaluator(Protocol):
    """Measures a candidate. Built once a worker and reused."""

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        """Yields estimates; the last has ``final=True``. Stopping early = not pulling.

        Raises EvaluationError (or anything) for an accident. Divergence is not an error: a metric is then NaN.
        """
        ...


class WeightSource(Protocol):
    """Where a candidate's starting weights come from: inherit, scratch, hypernet."""

    def build(self, candidate: Candidate) -> nn.Module: ...


class Statistic(Protocol):
    """Something to know about the channels of groups that takes examples. Hashable: equal ones are collected once."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> bool:
        """Whether the examples need labels."""
        ...


class KnownStatistics(Protocol):
    """What a calibration pass found out (``pruning.statistics.Statistics``)."""

    def of(self, statistic: Statistic, group: ChannelGroup) -> Any:
        """Raises UndefinedScore where it has no meaning for the group, KeyError when it was not collected."""
        ...


class Criterion(Protocol):
    """Scores the channels of a group; larger = keep."""

    name: str

    @property
    def needs(self) -> frozenset[Statistic]:
        """Statistics that it reads; empty: the weights are enough."""
        ...

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. ``tensors``: the base model's, by name; ``statistics``: what it needs, no more.

        Raises UndefinedScore where the criterion has no meaning for the group.
        """
        ...


class AskTell(Protocol):
    """What an executor sees of a session. Safe to call from several threads."""

    @property
    def done(self) -> bool:
        """Nothing is running and nothing will be proposed: the executor returns."""
        ...

    @property
    def wants_estimates(self) -> bool:
        """Whether ``report`` decides by what was measured. If not, an executor may keep intermediate ones to itself."""
        ...

    def ask(self) -> Trial | None:
        """A trial to run now, decoded, feasible and recorded RUNNING; None: nothing now (see ``done``)."""
        ...

    def report(self, number: int, measurement: Measurement) -> bool:
        """An intermediate measurement; False: stop this trial."""
        ...

    def tell(self, number: int, outcome: Outcome) -> None:
        """How an attempt ended. Idempotent: a second tell of a finished trial changes nothing."""
        ...

    def stop(self, reason: str) -> None:
        """Hand out nothing new; trials that run may still be told. For an executor that must end early (Ctrl-C)."""
        ...


class Executor(Protocol):
    """Runs trials until the session is done. A stranger to controllers and store."""

    def run(self, session: AskTell) -> None: ...


class Observer(Protocol):
    """Told of what happens, in the driver process; must be quick and never raise."""

    def on_trial(self, trial: Trial) -> None:
        """A trial started (RUNNING), was put back for a retry (RUNNING, attempt > 1) or finished."""
        ...

    def on_front(self, front: Sequence[Trial]) -> None:
        """The front of the search's objectives moved."""
        ...


class Progress(Observer, Protocol):
    """Shows how far a command is: phases of known or unknown length, and the search's trials."""

    def on_baseline(self, metrics: Mapping[str, float]) -> None:
        """The unpruned model's metrics, before the first trial."""
        ...

    def phase(self, name: str, total: int | None = None) -> None:
        """A new phase begins; ``total`` steps if that is known."""
        ...

    def advance(self, text: str = "", step: int = 1) -> None:
        """The phase is ``step`` further; ``text`` says where it stands."""
        ...

    def note(self, text: str) -> None:
        """Something the user should know, kept on the screen."""
        ...
