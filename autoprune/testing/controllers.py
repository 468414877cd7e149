"""What every controller must do, as tests to subclass:

class TestMine(ControllerContract):
    def make(self, search, decoder, seed):
        return MyController(search.space, decoder, search.objectives, seed)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from autoprune.protocols import Controller
from autoprune.space import Decoder
from autoprune.testing.toy import ToySearch, toy_space
from autoprune.types import Candidate, Constraint, Objective, Proposal, Trial, TrialState

__all__ = ["ControllerContract", "drive", "toy_searches"]

Ending = Callable[[Trial], Trial]


def toy_searches() -> dict[str, ToySearch]:
    """Searches that between them have every kind of objective and budget."""
    space = toy_space()
    top1, macs = Objective("top1", "max"), Objective("macs", "min")
    half, narrow = Constraint("macs", "<=", 0.5, relative=True), Constraint("params", ">=", 0.3, relative=True)
    return {
        "two objectives": ToySearch(space),
        "within a budget": ToySearch(space, constraints=(half,)),
        "fill a budget": ToySearch(space, objectives=(top1,), constraints=(half,)),
        "bounds at odds": ToySearch(space, constraints=(half, narrow)),
        "one objective": ToySearch(space, objectives=(Objective("loss", "min"),)),
        "three objectives": ToySearch(space, objectives=(top1, macs, Objective("params", "min"))),
    }


def drive(
    controller: Controller, search: ToySearch, first: int, last: int, ending: Ending | None = None
) -> list[Trial]:
    """Run trials ``first`` to ``last - 1`` one after another, as the serial executor would; fewer at a grid's end."""
    trials = []
    for number in range(first, last):
        proposal = controller.ask(number)
        if proposal is None:
            break
        trial = finished(search, number, proposal)
        trials.append(ending(trial) if ending else trial)
        controller.tell(trials[-1])
    return trials


def finished(search: ToySearch, number: int, proposal: Proposal) -> Trial:
    """The trial, measured; its note has been through the store's JSON."""
    note = json.loads(json.dumps(dict(proposal.note)))
    metrics = search.measure(proposal.candidate)
    return Trial(number, proposal.candidate, TrialState.COMPLETE, metrics, note=note)


def mixed(trial: Trial) -> Trial:
    """Every way in which a trial can end, by its number."""
    if trial.number % 7 == 3:
        return replace(trial, state=TrialState.FAILED, metrics={})
    if trial.number % 7 == 4:
        return replace(trial, state=TrialState.INFEASIBLE, metrics={}, reason="latency_ms")
    if trial.number % 7 == 5:
        return replace(trial, state=TrialState.DIVERGED, metrics={**trial.metrics, "top1": math.nan, "loss": math.nan})
    if trial.number % 7 == 6:
        return replace(trial, duplicate_of=f"toy/{trial.number - 1}")
    return replace(trial, state=TrialState.STOPPED) if trial.number % 7 == 2 else trial


class ControllerContract:
    """Subclass it and define :meth:`make`; pytest then runs every check."""

    trials = 20
    """Length of the runs."""
    seeded = True
    """Whether proposals depend on the seed."""

    def make(self, search: ToySearch, decoder: Decoder, seed: int) -> Controller:
        raise NotImplementedError

    def _controller(self, search: ToySearch, seed: int = 0) -> Controller:
        return self.make(search, Decoder(search.space, search.constraints, objectives=search.objectives), seed)

    def _resumed(self, search: ToySearch, controller: Controller, history: list[Trial]) -> Controller:
        resumed = self._controller(search)
        resumed.load_state(json.loads(json.dumps(dict(controller.state()))), history)
        return resumed

    def _each_search(self) -> Iterator[ToySearch]:
        yield from toy_searches().values()

    def test_proposals_are_allowed_and_feasible(self) -> None:
        for search in self._each_search():
            trials = drive(self._controller(search), search, 0, self.trials, mixed)
            assert trials
            for trial in trials:
                search.space.validate(trial.candidate)
                metrics = search.space.cost.measure(trial.candidate)
                for bound in search.constraints:
                    assert bound.miss(metrics, search.space.cost.baseline) == 0

    def test_budget_is_filled_when_nothing_else_is_minimised(self) -> None:
        """Within 2 % of the bound, or so near that no width can grow by a step."""
        search = toy_searches()["fill a budget"]
        space, budget = search.space, 0.5 * search.space.cost.baseline["macs"]
        for trial in drive(self._controller(search), search, 0, self.trials):
            grown = [
                dict(trial.candidate.widths) | {item.name: item.allowed[item.allowed.index(width) + 1]}
                for item in space.dimensions
                if (width := trial.candidate.widths[item.name]) < item.channels
            ]
            over = [space.cost.measure(Candidate(widths))["macs"] > budget for widths in grown]
            assert trial.metrics["macs"] >= 0.98 * budget or all(over)

    def test_equal_seeds_propose_equally(self) -> None:
        search = ToySearch(toy_space())
        runs = [
            [trial.candidate for trial in drive(self._controller(search, seed), search, 0, self.trials)]
            for seed in (0, 0, 1)
        ]
        assert runs[0] == runs[1]
        assert (runs[0] != runs[2]) == self.seeded

    def test_resumes_exactly_after_any_trial(self) -> None:
        for search, ending in ((ToySearch(toy_space()), mixed), (toy_searches()["fill a budget"], None)):
            uncut = drive(self._controller(search), search, 0, self.trials, ending)
            controller = self._controller(search)
            for cut in range(len(uncut)):
                resumed = self._resumed(search, controller, uncut[:cut])
                end = min(cut + 2, len(uncut))
                assert drive(resumed, search, cut, end, ending) == uncut[cut:end], f"cut before trial {cut}"
                drive(controller, search, cut, cut + 1, ending)

    def test_resumes_exactly_to_the_end(self) -> None:
        search = ToySearch(toy_space())
        uncut = drive(self._controller(search), search, 0, self.trials, mixed)
        for cut in (1, len(uncut) // 2):
            before = self._controller(search)
            drive(before, search, 0, cut, mixed)
            resumed = self._resumed(search, before, uncut[:cut])
            assert drive(resumed, search, cut, self.trials, mixed) == uncut[cut:]

    def test_resumes_exactly_while_a_trial_runs(self) -> None:
        search = ToySearch(toy_space())
        uncut = drive(self._controller(search), search, 0, self.trials)
        controller = self._controller(search)
        for cut in range(len(uncut) - 1):
            assert controller.ask(cut) is not None
            running = replace(uncut[cut], state=TrialState.RUNNING, metrics={})
            resumed = self._resumed(search, controller, [*uncut[:cut], running])
            resumed.tell(uncut[cut])
            controller.tell(uncut[cut])
            assert drive(resumed, search, cut + 1, cut + 2) == uncut[cut + 1 : cut + 2], f"trial {cut} was running"

    def test_loading_forgets_what_was_before(self) -> None:
        search = ToySearch(toy_space())
        uncut = drive(self._controller(search), search, 0, self.trials)
        used = self._controller(search)
        drive(used, search, 0, self.trials, mixed)
        used.load_state(json.loads(json.dumps(dict(self._controller(search).state()))), [])
        assert drive(used, search, 0, self.trials) == uncut

    def test_failed_trials_teach_nothing(self) -> None:
        """Whatever a FAILED trial claims to have measured, the proposals after it are the same."""
        search = ToySearch(toy_space())
        runs = []
        for claim in ({}, {"top1": 1.0, "macs": 1.0}, {"top1": 0.0, "macs": 1e12}):
            controller = self._controller(search)

            def fail(trial: Trial, claim: dict[str, float] = claim) -> Trial:
                return replace(trial, state=TrialState.FAILED, metrics=claim) if trial.number % 2 else trial

            runs.append([trial.candidate for trial in drive(controller, search, 0, self.trials, fail)])
        assert runs[0] == runs[1] == runs[2]

    def test_stopped_trials_teach_their_estimates(self) -> None:
        """To a controller, a measurement that was cut off is a measurement."""
        search = ToySearch(toy_space())
        runs = []
        for state in (TrialState.COMPLETE, TrialState.STOPPED):
            controller = self._controller(search)

            def cut_off(trial: Trial, state: TrialState = state) -> Trial:
                estimate = {**trial.metrics, "top1": 0.5 * trial.metrics["top1"], "images": 250.0}
                return replace(trial, state=state, metrics=estimate) if trial.number % 2 else trial

            runs.append([trial.candidate for trial in drive(controller, search, 0, self.trials, cut_off)])
        assert runs[0] == runs[1]

    def test_runs_in_parallel(self) -> None:
        """Four trials at a time, finishing in reverse order: never stuck, and still feasible."""
        search = toy_searches()["within a budget"]
        controller, number = self._controller(search), 0
        while number < self.trials and not controller.exhausted:
            running: list[Trial] = []
            while len(running) < 4 and (proposal := controller.ask(number)) is not None:
                running.append(finished(search, number, proposal))
                number += 1
            assert running or controller.exhausted, "no proposal although nothing is running"
            for trial in reversed(running):
                assert search.constraints[0].miss(trial.metrics, search.space.cost.baseline) == 0
                controller.tell(mixed(trial))
        assert number

    def test_a_trial_told_twice_counts_once(self) -> None:
        search = ToySearch(toy_space())
        once, twice = self._controller(search), self._controller(search)
        for number in range(self.trials):
            first, second = once.ask(number), twice.ask(number)
            assert first == second
            if first is None:
                break
            trial = finished(search, number, first)
            once.tell(trial)
            twice.tell(trial)
            twice.tell(trial)

    def test_exhausted_means_no_more(self) -> None:
        """In a space of four candidates a controller either repeats itself or says that it has ended."""
        search = ToySearch(toy_space((4, 4), multiple=2, floor=0.5))
        controller = self._controller(search)
        trials = drive(controller, search, 0, 12)
        assert trials
        if controller.exhausted:
            assert controller.ask(len(trials)) is None
            assert len({trial.candidate.digest for trial in trials}) == len(trials)
        else:
            assert len(trials) == 12
