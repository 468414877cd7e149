"""Events and metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from autoprune.api.reader import Reader
from autoprune.errors import ConfigError, NotFound
from autoprune.service.events import TrialFeed
from autoprune.service.settings import Limits
from autoprune.store import Lease, Store, new_owner, open_store
from autoprune.types import Candidate, Trial, TrialState

API = "/api/v1"


def start(opened: Store, lease: Lease, number: int) -> Trial:
    trial = Trial(number, Candidate({"a": 1, "b": number}), TrialState.RUNNING, started_at=1.0)
    opened.start_trial(lease, trial)
    return trial


def finish(opened: Store, lease: Lease, trial: Trial, macs: float = 99.0) -> None:
    metrics = {"top1": 0.95, "macs": macs, "params": 1.0}
    done = Trial(trial.number, trial.candidate, TrialState.COMPLETE, metrics, started_at=1.0, finished_at=500.0)
    opened.finish_trial(lease, done, {})


def test_a_feed_tells_each_finished_trial_once_in_whatever_order(store: str) -> None:
    feed = TrialFeed(Reader(store), "s")
    assert feed.news() == []
    with open_store(store) as opened:
        lease = opened.claim("s", owner=new_owner(), ttl_seconds=60)
        slow, quick = start(opened, lease, 7), start(opened, lease, 8)
        assert feed.news() == []
        finish(opened, lease, quick)
        assert [body["number"] for body in feed.news()] == [8]
        cut = feed.position
        finish(opened, lease, slow)
        assert [body["number"] for body in feed.news()] == [7]
        assert feed.news() == []
        again = TrialFeed(Reader(store), "s", cut)
        assert [body["number"] for body in again.news()] == [7]
        opened.release(lease)
    assert feed.position == "8"


@pytest.mark.parametrize("position", ["x", "1.x", "-5", "99999999999999999999", "1.-2"])
def test_a_position_that_is_none_is_refused(store: str, position: str) -> None:
    with pytest.raises(ConfigError, match="Last-Event-ID"):
        TrialFeed(Reader(store), "s", position)


def test_a_feed_of_an_unknown_search_is_not_found(store: str) -> None:
    with pytest.raises(NotFound):
        TrialFeed(Reader(store), "nix")


def events_in(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_the_present_state_comes_first(client: TestClient) -> None:
    answer = client.get(f"{API}/events", params={"search": "s", "once": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events_in(answer.text)
    assert [event for event, _ in found] == ["front", "search"]
    assert found[0][1] == {"search": "s", "numbers": [5, 1, 0]}
    assert found[1][1]["trials"] == 7
    missed = events_in(
        client.get(f"{API}/events", params={"search": "s", "once": True}, headers={"Last-Event-ID": "4.2"}).text
    )
    assert [body["number"] for event, body in missed if event == "trial"] == [2, 5, 6]
    assert missed[1][1]["metrics"]["loss"] is None
    assert client.get(f"{API}/events", params={"search": "nix"}).status_code == 404
    assert client.get(f"{API}/events", params={"search": "s"}, headers={"Last-Event-ID": "x"}).status_code == 422


def test_a_stream_goes_on_and_survives_clients_that_hang_up(listening: Callable[..., str], store: str) -> None:
    url = listening(limits=Limits(streams=2)) + API
    with httpx.Client() as http:
        for _ in range(4):  # hanging up gives the place back
            with http.stream("GET", f"{url}/events", params={"search": "s"}) as answer:
                next(answer.iter_lines())
        with http.stream("GET", f"{url}/events", params={"search": "s"}) as answer:
            lines = answer.iter_lines()
            while next(lines) != "event: search":
                pass
            with open_store(store) as opened:
                lease = opened.claim("s", owner=new_owner(), ttl_seconds=60)
                finish(opened, lease, start(opened, lease, 7), macs=30.0)
                told = [next(lines) for _ in range(10)]
                opened.release(lease)
        assert "event: trial" in told
        assert any('"numbers":[7]' in line for line in told), "it has the whole front"
        assert http.get(f"{url}/health").status_code == 200


def test_there_is_an_end_to_streams(listening: Callable[..., str]) -> None:
    url = listening(limits=Limits(streams=1)) + API
    with httpx.Client() as http, http.stream("GET", f"{url}/events") as answer:
        lines = answer.iter_lines()  # forgetting it would hang up
        next(lines)
        assert http.get(f"{url}/events").status_code == 429


def test_metrics_for_prometheus(client: TestClient) -> None:
    client.get(f"{API}/searches")
    client.get(f"{API}/nothing")
    answer = client.get(f"{API}/metrics")
    lines = answer.text.splitlines()
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'autoprune_trials{state="complete"} 5' in lines
    assert 'autoprune_searches{state="complete"} 1' in lines
    assert 'autoprune_requests_total{method="GET",status="404"} 1' in lines
