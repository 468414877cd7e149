"""The session's promises, one trial at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_search import Recorder, ToyController, ToyEvaluator, history, open_session, top1_of

from autoprune.driver.lease_keeper import LeaseKeeper
from autoprune.driver.session import Session
from autoprune.errors import Conflict, SearchAborted
from autoprune.executors import SerialExecutor
from autoprune.store import Store, new_owner, open_store
from autoprune.types import (
    Candidate,
    Constraint,
    Measurement,
    Outcome,
    OutcomeKind,
    SearchState,
    Trial,
    TrialState,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        yield store


def ask(session: Session) -> Trial:
    trial = session.ask()
    assert trial is not None
    return trial


def measured(top1: float = 0.5, **metrics: float) -> Outcome:
    return Outcome(OutcomeKind.MEASURED, {"top1": top1, **metrics}, timings={"evaluate": 0.25}, worker="w1")


def accident(reason: str = "RuntimeError: boom") -> Outcome:
    return Outcome(OutcomeKind.ACCIDENT, reason=reason)


def candidate(a: int, b: int = 1, c: int = 1) -> Candidate:
    return Candidate({"a": a, "b": b, "c": c})


# --- asking and telling ----------------------------------------------------------------------------------------------


def test_a_trial_is_recorded_running_before_it_is_handed_out(store: Store) -> None:
    with open_session(store) as session:
        trial = ask(session)
        assert trial.number == 0
        assert trial.started_at > 1.7e9
        assert store.trials("toy") == [trial]
        assert trial.note == {"drawn": 0}


def test_a_measured_trial_is_complete_with_analytic_metrics(store: Store) -> None:
    controller = ToyController(script={0: candidate(4, 2, 1)})
    with open_session(store, controller) as session:
        session.tell(ask(session).number, measured(0.5, loss=1.5, macs=-1.0))
        done = store.trial("toy", 0)
    assert done.state is TrialState.COMPLETE
    assert done.metrics == {"top1": 0.5, "loss": 1.5, "macs": 70.0, "params": 7.0}
    assert (done.timings, done.worker) == ({"evaluate": 0.25}, "w1")
    assert controller.told == [done]


def test_a_second_tell_changes_nothing(store: Store) -> None:
    controller = ToyController()
    with open_session(store, controller) as session:
        number = ask(session).number
        session.tell(number, measured(0.5))
        session.tell(number, measured(0.9))
        session.tell(12345, measured(0.9))
        assert store.trial("toy", number).metrics["top1"] == 0.5
        assert len(controller.told) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_a_divergence(store: Store, bad: float) -> None:
    controller = ToyController()
    with open_session(store, controller) as session:
        session.tell(ask(session).number, measured(0.5, loss=bad))
        assert store.trial("toy", 0).state is TrialState.DIVERGED
        assert store.trial("toy", 0).reason == f"loss is {bad}"
        assert session.front == ()
        assert controller.told[0].state is TrialState.DIVERGED


def test_a_broken_measured_constraint_is_infeasible_and_not_on_the_front(store: Store) -> None:
    with open_session(store, constraints=[Constraint("top1", ">=", 0.9, relative=True)]) as session:
        session.tell(ask(session).number, measured(0.80))
        session.tell(ask(session).number, measured(0.82))
        low, high = store.trials("toy")
        assert low.state is TrialState.INFEASIBLE
        assert low.reason == "top1 0.8 breaks top1 >= 0.9 * baseline (0.81)"
        assert high.state is TrialState.COMPLETE
        assert [trial.number for trial in session.front] == [1]


@pytest.mark.parametrize(
    ("kind", "state"), [(OutcomeKind.STOPPED, TrialState.STOPPED), (OutcomeKind.INFEASIBLE, TrialState.INFEASIBLE)]
)
def test_stopped_and_infeasible_outcomes_keep_their_reason(store: Store, kind: OutcomeKind, state: TrialState) -> None:
    with open_session(store) as session:
        session.tell(ask(session).number, Outcome(kind, {"top1": 0.99}, "cannot win"))
        assert (store.trial("toy", 0).state, store.trial("toy", 0).reason) == (state, "cannot win")
        assert session.front == ()


def test_a_metric_that_is_never_measured_fails_without_retries(store: Store) -> None:
    session = open_session(store, constraints=[Constraint("latency_ms", "<=", 3.0)])
    for number in range(5):
        session.tell(ask(session).number, measured(0.5))
        assert store.trial("toy", number).state is TrialState.FAILED
    assert session.done
    session.close()
    with pytest.raises(SearchAborted, match="does not measure latency_ms; it measures macs, params, top1"):
        session.check()


# --- proposals -------------------------------------------------------------------------------------------------------


def test_an_infeasible_proposal_is_decoded(store: Store) -> None:
    controller = ToyController(script={0: candidate(16, 16, 16), 1: candidate(8, 8, 8)})
    with open_session(store, controller, constraints=[Constraint("macs", "<=", 0.5, relative=True)]) as session:
        assert ask(session).candidate == candidate(1, 1, 1)
        assert ask(session).candidate == candidate(8, 8, 8), "exactly at the bound"


def test_a_proposal_outside_the_space_aborts(store: Store) -> None:
    session = open_session(store, ToyController(script={0: candidate(99)}))
    assert session.ask() is None
    assert session.done
    session.close()
    with pytest.raises(SearchAborted, match="width 99 is not allowed"):
        session.check()
    assert store.search("toy").state is SearchState.ABORTED
    assert store.trials("toy") == []


def test_a_controller_that_waits_for_nothing_aborts(store: Store) -> None:
    class Stuck(ToyController):
        def ask(self, number: int) -> None:
            return None

    session = open_session(store, Stuck())
    assert session.ask() is None
    session.close()
    with pytest.raises(SearchAborted, match="proposes nothing for trial 0"):
        session.check()


def test_a_controller_may_wait_for_running_trials(store: Store) -> None:
    class InTurn(ToyController):
        def ask(self, number: int) -> Any:
            return super().ask(number) if len(self.told) == number else None

    with open_session(store, InTurn(), trials=2) as session:
        first = ask(session)
        assert session.ask() is None
        assert not session.done
        session.tell(first.number, measured())
        session.tell(ask(session).number, measured())
        assert session.done


def test_an_exhausted_controller_completes_the_search(store: Store) -> None:
    with open_session(store, ToyController(length=3)) as session:
        SerialExecutor(ToyEvaluator, 10).run(session)
    assert store.search("toy").state is SearchState.COMPLETE
    assert len(store.trials("toy")) == 3


# --- equal candidates ------------------------------------------------------------------------------------------------


def test_an_equal_candidate_is_looked_up_and_asks_on(store: Store) -> None:
    controller = ToyController(script={0: candidate(4), 1: candidate(4), 2: candidate(5)})
    with open_session(store, controller) as session:
        session.tell(ask(session).number, measured(0.5, loss=1.0))
        assert ask(session).number == 2
        copy = store.trial("toy", 1)
    assert (copy.state, copy.duplicate_of) == (TrialState.COMPLETE, "toy/0")
    assert copy.metrics == store.trial("toy", 0).metrics
    assert [trial.number for trial in controller.told] == [0, 1]


def test_the_trials_limit_bounds_repetition(store: Store) -> None:
    controller = ToyController(script={number: candidate(4) for number in range(100)})
    with open_session(store, controller, trials=7) as session:
        session.tell(ask(session).number, measured())
        assert session.ask() is None
        assert session.done
    assert [trial.duplicate_of for trial in store.trials("toy")] == ["", *["toy/0"] * 6]
    assert store.search("toy").state is SearchState.COMPLETE


def test_other_searches_with_the_same_evaluation_are_looked_up(store: Store) -> None:
    with open_session(store, ToyController(script={0: candidate(4)}), name="one", trials=1) as session:
        session.tell(ask(session).number, measured(0.5))
    store.add_metrics("one", 0, {"test_top1": 0.4})
    script = {0: candidate(4), 1: candidate(5)}
    with open_session(store, ToyController(script=script), name="two") as session:
        assert ask(session).number == 1
    assert store.trial("two", 0).duplicate_of == "one/0"
    assert "test_top1" not in store.trial("two", 0).metrics
    with open_session(store, ToyController(script=script), name="three", evaluation_digest="other") as session:
        assert ask(session).number == 0


def test_a_copy_is_judged_by_its_own_searchs_constraints(store: Store) -> None:
    strict = [Constraint("top1", ">=", 0.6)]
    controllers = [ToyController(script={0: candidate(4), 1: candidate(5)}) for _ in range(3)]
    with open_session(store, controllers[0], name="strict", constraints=strict, trials=1) as session:
        session.tell(ask(session).number, measured(0.5))
    assert store.trial("strict", 0).state is TrialState.INFEASIBLE
    with open_session(store, controllers[1], name="free") as session:
        ask(session)
    assert store.trial("free", 0).state is TrialState.COMPLETE
    with open_session(store, controllers[2], name="strict2", constraints=strict) as session:
        ask(session)
    assert store.trial("strict2", 0).state is TrialState.INFEASIBLE


def test_a_measurement_that_lacks_what_this_search_needs_is_no_answer(store: Store) -> None:
    with open_session(store, ToyController(script={0: candidate(4)}), name="one", trials=1) as session:
        session.tell(ask(session).number, measured(0.5))
    bound = [Constraint("latency_ms", "<=", 3.0)]
    with open_session(store, ToyController(script={0: candidate(4)}), name="two", constraints=bound) as session:
        assert ask(session).number == 0


def test_the_twin_of_a_running_trial_waits_for_its_result(store: Store) -> None:
    controller = ToyController(script=dict.fromkeys((0, 1, 3), candidate(4)) | {2: candidate(5)})
    with open_session(store, controller, trials=4) as session:
        first, third = ask(session), ask(session)
        assert (first.number, third.number) == (0, 2)
        assert session.ask() is None, "0 runs, 1 and 3 wait"
        session.tell(0, measured(0.5))
        assert not session.done
        assert [trial.number for trial in controller.told] == [0, 1, 3]
        session.tell(2, measured(0.6))
        assert session.done
    assert [trial.duplicate_of for trial in store.trials("toy")] == ["", "toy/0", "", "toy/0"]


def test_when_a_trial_fails_its_twin_runs(store: Store) -> None:
    controller = ToyController(script=dict.fromkeys((0, 1), candidate(4)) | {2: candidate(5)})
    with open_session(store, controller, trials=3, retries=0) as session:
        ask(session), ask(session)
        session.tell(0, accident())
        promoted = ask(session)
        assert (promoted.number, promoted.attempt) == (1, 1)
        session.tell(1, measured(0.5))
    assert [trial.state.value for trial in store.trials("toy")] == ["failed", "complete", "running"]


# --- accidents -------------------------------------------------------------------------------------------------------


def test_an_accident_is_retried_then_failed(store: Store) -> None:
    recorder, controller = Recorder(), ToyController()
    with open_session(store, controller, retries=2, observers=[recorder]) as session:
        for attempt in (1, 2, 3):
            trial = ask(session)
            assert (trial.number, trial.attempt) == (0, attempt)
            assert store.trial("toy", 0).attempt == attempt
            session.tell(0, accident())
        failed = store.trial("toy", 0)
        assert (failed.state, failed.reason, failed.attempt) == (TrialState.FAILED, "RuntimeError: boom", 3)
        assert ask(session).number == 1
    assert [(t.number, t.state.value, t.attempt) for t in recorder.trials] == [
        (0, "running", 1),
        (0, "running", 2),
        (0, "running", 3),
        (0, "failed", 3),
        (1, "running", 1),
    ]
    assert [trial.state for trial in controller.told] == [TrialState.FAILED]


def test_the_first_five_failures_abort_with_the_commonest_reason(store: Store) -> None:
    session = open_session(store, retries=0)
    for number in range(5):
        session.tell(ask(session).number, accident("rare" if number == 0 else "CUDA error"))
    assert session.ask() is None
    assert session.done
    session.close()
    with pytest.raises(SearchAborted, match="5 of 5 trials failed, 4 of them with: CUDA error"):
        session.check()
    assert store.search("toy").state is SearchState.ABORTED


def test_more_than_half_of_ten_abort_but_half_do_not(store: Store) -> None:
    with open_session(store, retries=0, trials=50) as session:
        for number in range(10):
            session.tell(ask(session).number, accident() if number % 2 else measured(0.1 * number))
        session.tell(ask(session).number, measured())
        assert not session.done
    session = open_session(store, retries=0, trials=50)
    for number in range(10):
        session.tell(ask(session).number, accident() if number % 5 not in (0, 1) else measured())
    assert session.done
    session.close()


def test_an_aborted_search_can_go_on_once_mended(store: Store) -> None:
    session = open_session(store, retries=0, trials=8)
    SerialExecutor(lambda: ToyEvaluator(score=lambda _: 1 / 0), 10).run(session)
    session.close()
    with open_session(store, retries=0, trials=8) as session:
        SerialExecutor(ToyEvaluator, 10).run(session)
    assert [trial.state.value for trial in store.trials("toy")] == ["failed"] * 5 + ["complete"] * 3
    assert store.trial("toy", 0).reason == "ZeroDivisionError: division by zero"


# --- limits and stopping ---------------------------------------------------------------------------------------------


def test_hours_count_over_all_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(store, hours=1.0) as session:
        session.tell(ask(session).number, measured())
    monkeypatch.setattr(Store, "active_seconds", lambda self, name: 3599.0)
    with open_session(store, hours=1.0) as session:
        running = ask(session)
        session._clock._began -= 2.0
        assert session.ask() is None
        assert not session.done, "a trial is running"
        session.tell(running.number, measured())
        assert session.done
    assert store.search("toy").state is SearchState.COMPLETE


def test_stop_asks_nothing_new_and_takes_what_runs(store: Store) -> None:
    with open_session(store) as session:
        trial = ask(session)
        session.stop("enough")
        assert session.ask() is None
        assert session.report(trial.number, Measurement({}, 1, 0.0, False))
        assert not session.done
        session.tell(trial.number, measured())
        assert session.done
    assert (store.search("toy").state, session.stop_reason) == (SearchState.INTERRUPTED, "enough")
    assert store.search("toy").trial_counts == {"complete": 1}


def test_a_hard_stop_leaves_running_trials_for_a_resume(store: Store) -> None:
    with open_session(store) as session:
        trial = ask(session)
        session.stop("now", hard=True)
        assert not session.report(trial.number, Measurement({}, 1, 0.0, False))
        session.tell(trial.number, Outcome(OutcomeKind.STOPPED, {"top1": 0.1}))
        assert session.done
    assert store.search("toy").trial_counts == {"running": 1}
    with open_session(store) as session:
        again = ask(session)
        assert (again.number, again.candidate, again.attempt) == (trial.number, trial.candidate, 2)


def test_more_trials_extend_a_complete_search(store: Store) -> None:
    for trials in (3, 3, 8):
        with open_session(store, trials=trials) as session:
            SerialExecutor(ToyEvaluator, 10).run(session)
        assert len(store.trials("toy")) == trials
        assert store.search("toy").state is SearchState.COMPLETE


def test_close_releases_the_lease_and_ignores_late_outcomes(store: Store) -> None:
    session = open_session(store)
    number = ask(session).number
    session.close()
    session.close()
    session.tell(number, measured())
    assert session.ask() is None
    assert store.trial("toy", number).state is TrialState.RUNNING
    store.claim("toy", owner=new_owner(), ttl_seconds=60)


# --- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_a_cut_search_proposes_what_the_uncut_one_does(store: Store, cut: int) -> None:
    with open_session(store, name="uncut", evaluation_digest="u") as session:
        SerialExecutor(ToyEvaluator, 10).run(session)
    with open_session(store, trials=cut) as session:
        SerialExecutor(ToyEvaluator, 10).run(session)
    with open_session(store) as session:
        ask(session)  # and die
    evaluator = ToyEvaluator()
    with open_session(store) as session:
        SerialExecutor(lambda: evaluator, 10).run(session)
    assert history(store) == history(store, "uncut")
    assert len({item.digest for item in evaluator.ran}) == len(evaluator.ran) <= 20 - cut


def test_orphaned_twins_are_run_once(store: Store) -> None:
    script = dict.fromkeys((0, 1), candidate(4)) | {2: candidate(5)}
    session = open_session(store, ToyController(script=script), trials=3)
    ask(session), ask(session)
    session.close()
    assert store.search("toy").trial_counts == {"running": 3}
    evaluator = ToyEvaluator()
    with open_session(store, ToyController(script=script), trials=3) as session:
        SerialExecutor(lambda: evaluator, 10).run(session)
    assert [item.widths["a"] for item in evaluator.ran] == [4, 5]
    assert store.search("toy").trial_counts == {"complete": 3}


def test_history_is_restored_in_the_order_of_finishing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(store) as session:
        for _ in range(4):
            ask(session)
        times = iter([500.0, 400.0, 300.0])  # the clock steps back
        monkeypatch.setattr(Store, "now", lambda self: next(times, 600.0))
        for number in (2, 0, 3):
            session.tell(number, measured(0.1 * number))
    controller = ToyController()
    open_session(store, controller).close()
    assert [trial.number for trial in controller.told] == [2, 0, 3]


def test_the_front_is_restored(store: Store) -> None:
    with open_session(store) as session:
        SerialExecutor(ToyEvaluator, 10).run(session)
        before = session.front
    with open_session(store) as session:
        assert session.front == before


# --- two drivers -----------------------------------------------------------------------------------------------------


def test_a_second_driver_is_refused(store: Store) -> None:
    with open_session(store), pytest.raises(Conflict, match="is being run by process"):
        open_session(store)


def test_a_driver_that_lost_its_lease_can_do_nothing(store: Store) -> None:
    zombie = open_session(store, ttl_seconds=0.0001)
    zombie._keeper.stop()
    lost = ask(zombie)
    with open_session(store) as session:
        assert ask(session).candidate == lost.candidate
        with pytest.raises(Conflict, match="taken over"):
            zombie.tell(lost.number, measured(0.9))
        with pytest.raises(Conflict, match="taken over"):
            zombie.ask()
        assert not zombie.done, "so that the executor asks, and hears of it"
        zombie.close()
        with pytest.raises(Conflict):
            zombie.check()
        session.tell(lost.number, measured(0.1))
        assert store.trial("toy", lost.number).metrics["top1"] == 0.1
        assert store.search("toy").state is SearchState.RUNNING


def test_the_lease_is_kept_while_the_session_lives(store: Store) -> None:
    renewed = threading.Event()
    session = open_session(store, ttl_seconds=0.3)
    original = store.renew

    def renew(lease: Any) -> None:
        original(lease)
        renewed.set()

    store.renew = renew  # type: ignore[method-assign]
    assert renewed.wait(5)
    session.close()


def test_losing_the_lease_while_idle_is_noticed(store: Store) -> None:
    session = open_session(store, ttl_seconds=0.05)
    lost = threading.Event()
    session._keeper.stop()

    def on_lost(error: Conflict) -> None:
        session._lost(error)
        lost.set()

    with store._writing() as connection:
        connection.exec_driver_sql("UPDATE searches SET epoch = epoch + 1")
    keeper = LeaseKeeper(store, session._lease, on_lost)
    assert lost.wait(5)
    keeper.stop()
    with pytest.raises(Conflict, match="taken over"):
        session.ask()
    session.close()


# --- observers and threads -------------------------------------------------------------------------------------------


def test_an_observer_that_raises_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Recorder):
        def on_trial(self, trial: Trial) -> None:
            raise RuntimeError("no screen")

    good = Recorder()
    with open_session(store, observers=[Bad(), good], trials=3) as session:
        SerialExecutor(ToyEvaluator, 10).run(session)
    assert len(good.trials) == 6
    assert "observer Bad failed" in caplog.text
    assert good.fronts[-1] == [trial.number for trial in session.front]


def test_many_threads_ask_and_tell(store: Store) -> None:
    with open_session(store, trials=200) as session:

        def work() -> None:
            while not session.done:
                trial = session.ask()
                if trial is not None:
                    session.tell(trial.number, measured(top1_of(trial.candidate)))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = store.trials("toy")
    assert [trial.number for trial in found] == list(range(200))
    run = [trial.candidate.digest for trial in found if not trial.duplicate_of]
    assert len(run) == len(set(run))
    assert store.search("toy").trial_counts == {"complete": 200}


def test_an_error_of_the_controller_writes_nothing(store: Store) -> None:
    class Bad(ToyController):
        def tell(self, trial: Trial) -> None:
            raise ValueError("a defect")

    session = open_session(store, Bad())
    number = ask(session).number
    with pytest.raises(ValueError, match="a defect"):
        session.tell(number, measured())
    with pytest.raises(ValueError, match="a defect"):
        session.ask()
    session.close()
    assert store.trial("toy", number).state is TrialState.RUNNING
    assert store.search("toy").state is SearchState.INTERRUPTED
