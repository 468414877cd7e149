"""NetAdapt (Yang et al. 2018): from the full model down, one group at a time, always the one that hurts least.

The bases of its rounds are a front by themselves. The original's series of reductions ends before many a budget, and
one lost worker stops it for ever; here steps are large enough to arrive, and a round does not wait for all its trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprune.config.controllers import NetAdaptControllerConfig
from autoprune.controllers.drawing import Aim
from autoprune.controllers.netadapt_moves import Descent, Exchange, Moves, first_step
from autoprune.controllers.observed import Losses, measured
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Objective, Proposal, Trial

__all__ = ["NetAdaptController"]

_FIRST_EXCHANGE = 0.5
_SLOWEST = 1 / 1024


class NetAdaptController:
    """Rounds of at most one trial a group, all of which may run at once.

    A round starts from its base: the model as large as the bounds allow, then the best of each round before. ``ask``
    returns None while less than ``quorum`` of a round's trials have ended and all of them are handed out; later
    results still count for the front. A FAILED trial counts as ended. Where no cost is an objective and a budget is to
    be filled, there is no way down, and a round exchanges width between the groups at that budget instead; it is over
    when no exchange helps. A walk that has arrived begins anew with steps half as large.

    A trial's note names its round, so that the history holds all there is to know.
    """

    def __init__(
        self,
        config: NetAdaptControllerConfig,
        *,
        space: SearchSpace,
        decoder: Decoder,
        objectives: Sequence[Objective],
        trials: int,
    ) -> None:
        self._config, self._objectives, self._decoder = config, tuple(objectives), decoder
        self._aim = Aim(decoder, objectives)
        self._chief = measured(objectives)
        self._first = config.step or first_step((trials - 1) // len(space.dimensions), config.decay)
        self._start_over()

    def _start_over(self) -> None:
        self._losses = Losses(self._objectives)
        self._known: dict[str, float] = {}
        self._ended: set[str] = set()
        self._asked: dict[str, Candidate] = {}
        self._over = False
        self._walk(self._first)
        self._begin(0, self._moves.start(), self._pace)

    def _walk(self, pace: float) -> None:
        """From now on with steps of this size, at first."""
        metric = self._aim.metric
        self._pace = pace if metric else _FIRST_EXCHANGE
        self._moves: Moves = (
            Descent(self._decoder, metric, pace, self._config.decay) if metric else Exchange(self._decoder, self._aim)
        )

    def _begin(self, number: int, base: Candidate, step: float) -> None:
        self._round, self._base, self._step = number, base, step
        self._candidates = self._moves.around(base, step) if number else [base]
        if self._candidates:
            return
        if self._aim.metric and base != self._moves.start() and self._pace > _SLOWEST:
            self._walk(self._pace / 2)
            self._begin(number + 1, self._moves.start(), self._pace)
        else:
            self._over = True

    @property
    def exhausted(self) -> bool:
        return self._over

    def ask(self, number: int) -> Proposal | None:
        while not self._over:
            new = next((item for item in self._candidates if item.digest not in self._asked), None)
            if new is not None:
                self._asked[new.digest] = new
                note = {"round": self._round, "base": self._base.digest, "step": self._step, "pace": self._pace}
                return Proposal(new, note)
            ended = sum(item.digest in self._ended for item in self._candidates)
            if ended < self._config.quorum * len(self._candidates):
                return None
            self._next_round()
        return None

    def _next_round(self) -> None:
        if self._round == 0:
            self._begin(1, self._base, self._step)
        else:
            self._begin(self._round + 1, *self._moves.chosen(self._base, self._candidates, self._known, self._step))

    def tell(self, trial: Trial) -> None:
        losses = self._losses.of(trial)
        if trial.state.finished:
            self._ended.add(trial.candidate.digest)
        if losses is not None:
            self._known[trial.candidate.digest] = float(losses[self._chief])

    def state(self) -> Mapping[str, Any]:
        """The first step, which depends on how many trials the search had when it began."""
        return {"first_step": self._first}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._first = float(state.get("first_step", self._first))
        self._start_over()
        for trial in history:
            self._asked[trial.candidate.digest] = trial.candidate
            self.tell(trial)
        latest = max((trial.note for trial in history), key=_round, default={})
        if _round(latest) > 0:
            self._walk(float(str(latest["pace"])))
            self._begin(_round(latest), self._asked[str(latest["base"])], float(str(latest["step"])))


def _round(note: Mapping[str, object]) -> int:
    number = note.get("round")
    return number if isinstance(number, int) else -1
