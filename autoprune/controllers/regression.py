"""Thompson sampling on a regression: each proposal is the best one under a function that the trials leave possible.

Thompson, "On the likelihood that one unknown probability exceeds another in view of the evidence of two samples",
Biometrika 1933. Costs are known functions of the widths, so that only what must be measured is regressed, on a dozen
numbers that a dozen trials already tell something about. For searches of some dozen trials; a sampler with fewer
assumptions has the more to gain the longer a search runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from autoprune.config.controllers import RegressionControllerConfig
from autoprune.controllers.digests import Digests
from autoprune.controllers.drawing import Aim, Proposed, draw
from autoprune.controllers.gain import Gain
from autoprune.controllers.posterior import Sample, sampled
from autoprune.controllers.uniform import UNIFORM, uniform_widths
from autoprune.controllers.window import is_full, kept
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Objective, Proposal, Trial, TrialState

__all__ = ["RegressionController"]

_ATTEMPTS = 4
_POOL, _BEST, _ROUNDS = 192, 16, 3
"""Candidates looked at in a round, those that the next one varies, and rounds."""
_STEP, _SHARE_STEP = 0.5, 0.3
"""How far proportions and shares of the cost are varied at first; each round by half as much."""


class RegressionController:
    """Proposes what gains most hypervolume over the trials so far, were the sampled function the truth.

    A proposal depends only on (seed, number) and the trials before it. INFEASIBLE and DIVERGED trials count as somewhat
    worse than the worst measured; FAILED ones teach nothing; STOPPED ones teach their estimates; trials that run count
    as what the sampled function says of them.
    """

    def __init__(
        self,
        config: RegressionControllerConfig,
        *,
        space: SearchSpace,
        decoder: Decoder,
        objectives: Sequence[Objective],
        seed: int,
    ) -> None:
        self._config, self._space, self._seed = config, space, seed
        self._objectives = tuple(objectives)
        self._aim = Aim(decoder, objectives)
        self._uniform = uniform_widths(space, decoder, config.seed_uniform)
        self._channels = np.array([float(item.channels) for item in space.dimensions])
        self._known = set(space.cost.metrics(space.vector(space.full())[None]))
        self._start_over()

    def _start_over(self) -> None:
        self._proposed = Proposed(self._space)
        self._running: dict[int, Candidate] = {}
        self._seen = Digests()
        self._told: list[tuple[np.ndarray, list[float]]] = []
        """Widths (G,) and objectives, NaN where they are only known to be bad, in the order of finishing."""

    @property
    def exhausted(self) -> bool:
        return self._proposed.everything

    def ask(self, number: int) -> Proposal | None:
        if self.exhausted:
            return None
        candidate = self._proposed.first_new(self._attempts(number))
        self._running[number] = candidate
        return Proposal(candidate, UNIFORM if candidate in self._uniform[number : number + 1] else {})

    def _attempts(self, number: int) -> Iterator[Callable[[], Candidate]]:
        """Uniform widths first; then what the regression says, a few times; at last a random draw."""
        rngs = (np.random.default_rng((self._seed, number, attempt)) for attempt in range(2 * _ATTEMPTS))
        if number < len(self._uniform):
            yield partial(self._uniform.__getitem__, number)
        yield from (partial(self._suggested, rng) for rng in islice(rngs, _ATTEMPTS))
        yield from (partial(draw, self._space, self._aim, rng) for rng in rngs)

    def tell(self, trial: Trial) -> None:
        self._running.pop(trial.number, None)
        if trial.state is TrialState.FAILED or not self._seen.add(trial.candidate.digest):
            return
        values = [trial.metrics.get(item.metric, math.nan) for item in self._objectives]
        if trial.state in (TrialState.INFEASIBLE, TrialState.DIVERGED) or not all(map(math.isfinite, values)):
            values = [math.nan] * len(values)
        self._told.append((self._space.vector(trial.candidate), values))
        if is_full(len(self._told), self._config.history):
            signs = [item.sign for item in self._objectives]
            stay = kept(np.array([values for _, values in self._told]) * signs, self._config.history)
            self._told = [self._told[at] for at in stay]

    def state(self) -> Mapping[str, Any]:
        """Empty: the history is the state."""
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._start_over()
        for trial in history:
            self._proposed.add(trial.candidate)
            if trial.state.finished:
                self.tell(trial)
            else:
                self._running[trial.number] = trial.candidate

    # --- inside ------------------------------------------------------------------------------------------------------

    def _suggested(self, rng: np.random.Generator) -> Candidate:
        """The best of a pool under a sampled function, varied and chosen from again."""
        widths, values = self._trials()
        samples = {
            at: sampled(item.metric, self._logs(widths), -item.sign * values[:, at], self._config.exploration, rng)
            for at, item in enumerate(self._objectives)
            if item.metric not in self._known
        }
        groups = len(self._channels)
        proportions, shares = np.clip(rng.normal(0.0, _STEP, (_POOL, groups)), -1.0, 1.0), rng.uniform(size=_POOL)
        running = self._stacked([self._space.vector(item) for item in self._running.values()])
        running = self._predicted(running, samples)
        predicted = self._predicted(self._aim.widths(proportions, shares), samples)
        gain = Gain(np.vstack([values, running]), predicted, self._floor(predicted), rng)
        for step in 0.5 ** np.arange(1, _ROUNDS):
            parents = np.repeat(np.argsort(-gain(predicted), kind="stable")[:_BEST], _POOL // _BEST)
            proportions = proportions[parents] + rng.normal(0.0, _STEP * step, (_POOL, groups))
            shares = shares[parents] + rng.normal(0.0, _SHARE_STEP * step, _POOL)
            proportions, shares = np.clip(proportions, -1.0, 1.0), np.clip(shares, 0.0, 1.0)
            predicted = self._predicted(self._aim.widths(proportions, shares), samples)
        best = int(np.argmax(gain(predicted)))
        return self._aim.place(proportions[best], float(shares[best]))

    def _trials(self) -> tuple[np.ndarray, np.ndarray]:
        """Widths (N, G) and values (N, objectives), larger better, of what was told; bad ones below all others."""
        widths = self._stacked([row for row, _ in self._told])
        values = np.array([values for _, values in self._told]).reshape(len(self._told), len(self._objectives))
        values = values * [-item.sign for item in self._objectives]
        bad = np.isnan(values).any(axis=1)
        good = values[~bad]
        worst = good.min(axis=0) - good.std(axis=0) if len(good) else np.zeros(values.shape[1])
        values[bad] = worst
        return widths, values

    def _stacked(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(rows) if rows else np.zeros((0, len(self._channels)), dtype=np.int64)

    def _logs(self, widths: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(widths / self._channels))

    def _predicted(self, widths: np.ndarray, samples: Mapping[int, Sample]) -> np.ndarray:
        """Values (N, objectives), larger better: costs as they are, the rest as the samples say."""
        costs, logs = self._space.cost.metrics(widths), self._logs(widths)
        columns = [
            -item.sign * (samples[at](logs) if at in samples else costs[item.metric])
            for at, item in enumerate(self._objectives)
        ]
        return np.stack(columns, axis=1)

    def _floor(self, predicted: np.ndarray) -> np.ndarray:
        """(objectives,) where hypervolume begins: the full model's costs, and the worst prediction of the rest."""
        full = self._space.cost.baseline
        return np.array(
            [
                -item.sign * full[item.metric] if item.metric in self._known else predicted[:, at].min()
                for at, item in enumerate(self._objectives)
            ]
        )
