"""Evolution without generations: a child is bred whenever a worker is free, from the best measured so far.

As in MetaPruning (Liu et al. 2019) the population is the best of everything measured and children are mutants or
uniform crossovers of its first ``parents``; but children are decoded into the budgets where MetaPruning draws again
until one fits, and no trial waits for the end of a generation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from autoprune.config.controllers import EvolutionControllerConfig
from autoprune.controllers.drawing import Aim, Proposed
from autoprune.controllers.evolution_genes import Genes, Proportions, Widths
from autoprune.controllers.evolution_survival import order
from autoprune.controllers.observed import Losses
from autoprune.controllers.uniform import UNIFORM, uniform_widths
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Objective, Proposal, Trial

__all__ = ["EvolutionController"]

_TRIES = 8
_DRAWS = 16
_REMEMBERED = 500


class EvolutionController:
    """A proposal depends on (seed, number) and on what was told before: the population is a function of the history.

    The first ``population`` proposals are uniform widths and random draws. INFEASIBLE and DIVERGED trials never enter
    the population, and a child that resembles one of them most is bred again. While fewer than two trials are in it
    (more trials at once than it holds, or all of them bad), proposals are random draws. A child that was proposed
    before is bred again, a bounded number of times.
    """

    def __init__(
        self,
        config: EvolutionControllerConfig,
        *,
        space: SearchSpace,
        decoder: Decoder,
        objectives: Sequence[Objective],
        seed: int,
    ) -> None:
        self._config, self._space, self._seed = config, space, seed
        self._objectives = tuple(objectives)
        self._uniform = uniform_widths(space, decoder, config.seed_uniform)
        self._genes: Genes = (
            Widths(decoder) if config.genes == "widths" else Proportions(decoder, Aim(decoder, objectives))
        )
        self._start_over()

    def _start_over(self) -> None:
        self._proposed = Proposed(self._space)
        self._losses = Losses(self._objectives)
        self._population: list[tuple[np.ndarray, np.ndarray]] = []
        """(genes, losses) of the survivors, the best first."""
        self._bad: deque[np.ndarray] = deque(maxlen=_REMEMBERED)
        self._good: deque[np.ndarray] = deque(maxlen=_REMEMBERED)
        """Genes of what was measured lately, survivors or not."""

    @property
    def exhausted(self) -> bool:
        return self._proposed.everything

    def ask(self, number: int) -> Proposal | None:
        if self.exhausted:
            return None
        candidate = self._proposed.first_new(self._attempts(number))
        return Proposal(candidate, UNIFORM if candidate in self._uniform[number : number + 1] else {})

    def _attempts(self, number: int) -> Iterator[Callable[[], Candidate]]:
        if number < len(self._uniform):
            yield lambda: self._uniform[number]
        if number >= self._config.population and len(self._population) > 1:
            for attempt in range(_TRIES):
                yield partial(self._child, number, attempt)
        for attempt in range(_DRAWS):
            yield partial(self._genes.random, np.random.default_rng((self._seed, number, _TRIES + attempt)))

    def _child(self, number: int, attempt: int) -> Candidate:
        """The first of a few that resembles something good; from the second try on each is mutated."""
        rng = np.random.default_rng((self._seed, number, attempt))
        for _ in range(_TRIES):
            candidate = self._genes.build(self._bred(attempt > 0, rng))
            if not self._suspect(candidate):
                break
        return candidate

    def _suspect(self, candidate: Candidate) -> bool:
        """Whether of what was measured lately the most similar candidate is a bad one."""
        if not self._bad or not self._good:
            return False
        genes = self._genes.encode(candidate)
        known = (np.stack(tuple(genes_of)) for genes_of in (self._bad, self._good))
        bad, good = (float(np.abs(table - genes).sum(axis=1).min()) for table in known)
        return bad < good

    def _bred(self, mutate: bool, rng: np.random.Generator) -> np.ndarray:
        """Genes of a mutant or a crossover."""
        parents = self._population[: self._config.parents]
        first, second = (parents[at][0] for at in rng.choice(len(parents), 2, replace=False))
        crossed = rng.random() < self._config.crossover
        genes = np.where(rng.random(len(first)) < 0.5, first, second) if crossed else first
        if not crossed or mutate or self._config.mutate_crossed:
            which = rng.random(len(genes)) < self._config.mutation
            which[rng.integers(len(genes))] |= not which.any()
            genes = self._genes.mutated(genes, which, rng)
        return genes

    def tell(self, trial: Trial) -> None:
        losses = self._losses.of(trial)
        if losses is None:
            return
        genes = self._genes.encode(trial.candidate)
        if not np.isfinite(losses).all():
            self._bad.append(genes)
            return
        self._good.append(genes)
        self._population.append((genes, losses))
        table = np.stack([losses for _, losses in self._population])
        best = order(table, hypervolume=self._config.survival == "hypervolume")
        self._population = [self._population[at] for at in best[: self._config.population]]

    def state(self) -> Mapping[str, Any]:
        """Empty: the history is the state."""
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._start_over()
        for trial in history:
            self._proposed.add(trial.candidate)
            self.tell(trial)
