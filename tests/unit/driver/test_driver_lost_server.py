"""A database that is stopped in the midst of a search: the driver waits, and goes on as if nothing had been."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from toy_search import ToyEvaluator, history, open_session

from autoprune.errors import Conflict
from autoprune.executors import SerialExecutor
from autoprune.store import new_owner, open_store
from autoprune.testing.postgres_server import PostgresServer
from autoprune.types import Candidate, Measurement, SearchState

TRIALS = 40


class Stopping(ToyEvaluator):
    """Stops the server within the tenth trial; it comes back after some seconds."""

    def __init__(self, server: PostgresServer, seconds_away: float) -> None:
        super().__init__(seconds=0.002)
        self.server = server
        self.back = threading.Timer(seconds_away, server.start)

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        if len(self.ran) == 10:
            self.server.stop(immediate=True)
            self.back.start()
        yield from super().evaluate(candidate)


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_search_survives_a_database_that_is_stopped(postgres: PostgresServer, seconds: float) -> None:
    pytest.importorskip("psycopg")
    with PostgresServer() as server, open_store(server.url) as store:
        evaluator = Stopping(server, seconds)
        # The lease runs out many times while the server is away; nobody could have taken it meanwhile.
        with open_session(store, trials=TRIALS, ttl_seconds=0.6) as session:
            began = time.monotonic()
            SerialExecutor(lambda: evaluator, 10).run(session)
            assert time.monotonic() - began > seconds
        evaluator.back.join()
        assert store.search("toy").state is SearchState.COMPLETE
        assert [number for number, *_ in history(store)] == list(range(TRIALS))
        runs = Counter(candidate.digest for candidate in evaluator.ran)
        assert set(runs.values()) == {1}, "nothing was run twice"
        with open_store(postgres.new_database()) as calm, open_session(calm, trials=TRIALS) as uncut:
            SerialExecutor(ToyEvaluator, 10).run(uncut)
            assert history(store) == history(calm)


def test_a_driver_that_was_away_for_longer_than_its_lease_finds_another_in_its_place(postgres_url: str) -> None:
    """Silence for longer than a lease is the end of it only when somebody else came."""
    with open_store(postgres_url) as store, open_store(postgres_url) as other:
        session = open_session(store, ttl_seconds=3600.0)
        session._keeper.stop()
        trial = session.ask()
        assert trial is not None
        with other._writing() as connection:
            connection.exec_driver_sql("UPDATE searches SET lease_until = 0, owner = 'elsewhere/1:1:0.0'")
        lease = other.claim("toy", owner=new_owner(), ttl_seconds=60.0)
        with pytest.raises(Conflict, match="taken over"):
            session.ask()
        session.close()
        assert other.trials("toy")[0].number == trial.number
        other.release(lease)
