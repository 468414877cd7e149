"""The queue, its workers and the routes that fill it; drivers are stand-ins that take no time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from autoprune.api import launches
from autoprune.api.working import Worker
from autoprune.config.schema import SearchConfig
from autoprune.errors import Conflict, NotFound
from autoprune.service import schemas
from autoprune.store import new_owner, open_store
from autoprune.store.queue import LaunchQueue
from autoprune.types import Launch, LaunchState, SearchState

API = "/api/v1"
DRIVER = [sys.executable, "-S", "-E", str(Path(__file__).parent / "fake_driver.py")]
SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}


def config(name: str, **content: Any) -> dict[str, Any]:
    return {"name": name, "space": SPACE, "executor": {"kind": "serial"}, **content}


def enqueue(store: str, name: str) -> Launch:
    return launches.enqueue(SearchConfig.model_validate(config(name)), store=store)


@pytest.fixture
def work(store: str) -> Iterator[Callable[..., Worker]]:
    """Start a worker in a thread."""
    made = []

    def start(**settings: Any) -> Worker:
        worker = Worker(store, command=DRIVER, **settings)
        thread = threading.Thread(target=worker.run)
        thread.start()
        made.append((worker, thread))
        return worker

    yield start
    for worker, thread in made:
        worker.stop()
        thread.join()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(store: str, launch_id: int) -> Launch:
    until(lambda: launches.launch(launch_id, store=store).state.ended)
    return launches.launch(launch_id, store=store)


def driver(store: str, launch_id: int) -> int:
    """The process id, once it runs."""
    until(lambda: "driving" in text(launches.log_file(launch_id, store=store)))
    until(lambda: launches.launch(launch_id, store=store).driver != "")
    return int(launches.launch(launch_id, store=store).driver.rsplit(":", 2)[1])


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def go(store: str) -> None:
    (Path(store.removeprefix("sqlite:///")).parent / "go").touch()


# --- the queue -------------------------------------------------------------------------------------------------------


def test_a_name_is_queued_once(store: str) -> None:
    first = enqueue(store, "a")
    with pytest.raises(Conflict, match=f"queued already, as launch {first.id}"):
        enqueue(store, "a")
    assert launches.position(enqueue(store, "b").id, store=store) == 2
    launches.stop("a", store=store)
    assert launches.launch(first.id, store=store).state is LaunchState.STOPPED
    assert [each.search for each in launches.launches(store=store)] == ["b", "a"]
    assert enqueue(store, "a").id == 3


def test_a_name_of_another_configuration_is_refused(store: str) -> None:
    with pytest.raises(Conflict, match="another configuration"):
        enqueue(store, "s")


def test_one_worker_gets_a_launch_and_another_after_its_lease(store: str) -> None:
    enqueue(store, "a")
    with open_store(store) as opened:
        queue = LaunchQueue(opened)
        mine = queue.claim(new_owner(), ttl_seconds=2)
        assert mine is not None
        assert queue.claim(new_owner(), ttl_seconds=60) is None
        time.sleep(2.1)
        theirs = queue.claim(new_owner(), ttl_seconds=60)
        assert theirs is not None
        with pytest.raises(Conflict, match="taken over"):
            queue.started(mine, "driver")
        queue.finish(theirs, LaunchState.COMPLETE)
        with pytest.raises(Conflict):
            queue.renew(mine)


def test_a_store_without_launches_has_none(store: str) -> None:
    assert launches.launches(store=store) == []
    with pytest.raises(NotFound):
        launches.launch(1, store=store)
    with open_store(store) as opened:
        assert LaunchQueue(opened).claim(new_owner(), ttl_seconds=1) is None


def test_deleting_takes_everything_of_a_search_and_nothing_of_others(store: str) -> None:
    from tests.service.conftest import fill

    fill(store, "other")
    launches.delete("s", store=store)
    with open_store(store) as opened:
        assert [record.name for record in opened.searches()] == ["other"]
        assert len(opened.trials("other")) == 7
        with opened._reading() as connection:
            left = {
                table: connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE search_id = 1").scalar()
                for table in ("trials", "metrics", "packs", "packed_metrics")
            }
    assert left == dict.fromkeys(left, 0)
    with pytest.raises(NotFound):
        launches.delete("s", store=store)


def test_a_search_that_runs_is_not_deleted(store: str) -> None:
    with open_store(store) as opened:
        lease = opened.claim("s", owner=new_owner(), ttl_seconds=60)
        with pytest.raises(Conflict, match="being run"):
            launches.delete("s", store=store)
        opened.release(lease)


# --- workers ---------------------------------------------------------------------------------------------------------


def test_launches_run_in_their_order_one_at_a_time(store: str, work: Callable[..., Worker]) -> None:
    made = [enqueue(store, name) for name in ("one", "fails", "two")]
    work()
    found = [ended(store, each.id) for each in made]
    assert [each.state.value for each in found] == ["complete", "failed", "complete"]
    assert found[1].message == "the data are not there.\nhint: put them there."
    times = [at or 0.0 for each in found for at in (each.started_at, each.finished_at)]
    assert times == sorted(times)


def test_several_run_at_once_if_asked(store: str, work: Callable[..., Worker]) -> None:
    made = [enqueue(store, f"waits-{number}") for number in range(3)]
    work(parallel=2)
    drivers = {driver(store, each.id) for each in made[:2]}
    assert len(drivers) == 2
    assert launches.position(made[2].id, store=store) == 1
    go(store)
    assert {ended(store, each.id).state for each in made} == {LaunchState.COMPLETE}


def test_a_launch_stops_in_good_order(store: str, work: Callable[..., Worker]) -> None:
    made = enqueue(store, "waits")
    work()
    driver(store, made.id)
    assert launches.stop("waits", store=store).stopping
    found = ended(store, made.id)
    assert (found.state, found.message) == (LaunchState.STOPPED, "stopped on request.")
    with pytest.raises(Conflict, match="no worker"):
        launches.stop("waits", store=store)
    with pytest.raises(Conflict, match="has ended already"):
        launches.stop(launch_id=made.id, store=store)


def test_a_killed_driver_is_started_again_and_given_up_after_three(store: str, work: Callable[..., Worker]) -> None:
    recovering, dying = enqueue(store, "recovers"), enqueue(store, "dies")
    work()
    found = ended(store, recovering.id)
    assert (found.state, found.attempts) == (LaunchState.COMPLETE, 2)
    found = ended(store, dying.id)
    assert (found.state, found.attempts) == (LaunchState.FAILED, 3)
    assert "killed by signal 9" in found.message


def test_a_worker_that_ends_hands_its_launches_to_the_next(store: str, work: Callable[..., Worker]) -> None:
    made = enqueue(store, "waits")
    first = work()
    pid = driver(store, made.id)
    first.stop()
    until(lambda: launches.launch(made.id, store=store).state is LaunchState.QUEUED)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    go(store)
    work()
    assert ended(store, made.id).state is LaunchState.COMPLETE


WORK = """
import sys
from autoprune.api.working import Worker
Worker(sys.argv[1], parallel=2, command=sys.argv[2:]).run()
"""


def test_a_killed_worker_leaves_its_drivers_to_the_next(store: str, work: Callable[..., Worker]) -> None:
    going, stopped = enqueue(store, "waits"), enqueue(store, "waits-too")
    killed = subprocess.Popen([sys.executable, "-c", WORK, store, *DRIVER])
    try:
        pids = [driver(store, each.id) for each in (going, stopped)]
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    said: list[str] = []
    work(parallel=2, say=said.append)
    until(lambda: len(said) == 2)
    assert said[0] == f"launch {going.id}: adopted the driver of 'waits'."
    assert [driver(store, each.id) for each in (going, stopped)] == pids
    launches.stop("waits-too", store=store)
    assert ended(store, stopped.id).state is LaunchState.STOPPED
    go(store)
    found = ended(store, going.id)
    assert (found.state, found.attempts) == (LaunchState.COMPLETE, 1)


# --- routes ----------------------------------------------------------------------------------------------------------


def test_launching_over_http(client: TestClient, store: str) -> None:
    answer = client.post(f"{API}/launches", json=config("new"))
    assert answer.status_code == 202, answer.text
    made = schemas.LaunchBody.model_validate(answer.json(), strict=True)
    assert (made.search, made.state, made.position) == ("new", "queued", 1)
    assert launches.launch(made.id, store=store).config["executor"] == {"kind": "serial"}
    assert client.get(f"{API}/launches/{made.id}").json() == answer.json()
    listed = schemas.LaunchesBody.model_validate(client.get(f"{API}/launches").json(), strict=True)
    assert [each.id for each in listed.launches] == [made.id]
    assert client.post(f"{API}/launches", json=config("new")).status_code == 409
    assert client.delete(f"{API}/searches/s?confirm=s").status_code == 204
    stopped = client.post(f"{API}/searches/new/stop")
    assert (stopped.status_code, stopped.json()["state"]) == (202, "stopped")
    assert client.post(f"{API}/launches/{made.id}/stop").status_code == 409


YAML = (
    b"name: y\nspace:\n  model: {kind: builtin, name: resnet8}\n  data: {kind: digits}\nlimits: {trails: 3}\nseed: x\n"
)


def test_mistakes_are_named_with_their_lines(client: TestClient) -> None:
    headers = {"content-type": "application/yaml"}
    found = client.post(f"{API}/validate", content=YAML, headers=headers).json()
    body = schemas.ValidationBody.model_validate(found, strict=True)
    assert not body.valid
    assert [problem.line for problem in body.problems] == [5, 6]
    assert "'limits.trails'" in body.problems[0].message
    answer = client.post(f"{API}/launches", content=YAML, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    good = YAML.replace(b"trails", b"trials").replace(b"x\n", b"1\n")
    found = client.post(f"{API}/validate", content=good, headers=headers).json()
    assert found["valid"]
    assert found["config"]["limits"]["trials"] == 3


def test_templates_are_valid_or_lack_only_their_data(client: TestClient) -> None:
    for template in schemas.TemplatesBody.model_validate(client.get(f"{API}/templates").json()).templates:
        assert template.summary.endswith(".")
        headers = {"content-type": "application/yaml"}
        found = client.post(f"{API}/validate", content=template.yaml.encode(), headers=headers).json()
        problems = [problem["message"] for problem in found["problems"]]
        assert found["valid"] or "in the server's data root" in problems[0]


@pytest.mark.parametrize("media", ["multipart/form-data", "application/x-www-form-urlencoded", "text/html", ""])
def test_forms_launch_nothing(client: TestClient, media: str) -> None:
    assert client.post(f"{API}/launches", content=YAML, headers={"content-type": media}).status_code == 415


def test_code_from_the_network_is_refused(client: TestClient, store: str) -> None:
    space = {**SPACE, "model": {"kind": "file", "path": "net.py", "factory": "make"}}
    answer = client.post(f"{API}/launches", json=config("evil") | {"space": space})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
    assert launches.launches(store=store) == []


def test_deleting_needs_the_name_again(client: TestClient) -> None:
    for query in ("", "?confirm=t", "?confirm=S"):
        assert client.delete(f"{API}/searches/s{query}").status_code == 422
    assert client.delete(f"{API}/searches/nix?confirm=nix").status_code == 404
    client.post(f"{API}/launches", json=config("new"))
    assert client.get(f"{API}/searches/s").status_code == 200


def test_resuming_is_launching_the_stored_configuration(client: TestClient, store: str) -> None:
    full = SearchConfig.model_validate(config("old", limits={"trials": 5}))
    with open_store(store) as opened:
        opened.create_search(
            "old", config=full.model_dump(mode="json"), digest=full.digest(), evaluation_digest="e", baseline={}
        )
        opened.set_search_state("old", SearchState.INTERRUPTED)
    assert client.post(f"{API}/searches/nix/resume").status_code == 404
    assert client.post(f"{API}/searches/old/resume", json={"trials": 0}).status_code == 422
    answer = client.post(f"{API}/searches/old/resume", json={"trials": 8})
    assert answer.status_code == 202, answer.text
    assert launches.launch(answer.json()["id"], store=store).config["limits"]["trials"] == 8
    assert client.post(f"{API}/searches/old/resume").status_code == 409


def test_what_was_stopped_before_it_began_is_resumed_by_its_name(client: TestClient, store: str) -> None:
    first = client.post(f"{API}/launches", json=config("early", limits={"trials": 5})).json()
    assert client.post(f"{API}/searches/early/resume").status_code == 409, "it waits already"
    assert client.post(f"{API}/launches/{first['id']}/stop").json()["state"] == "stopped"
    answer = client.post(f"{API}/searches/early/resume", json={"trials": 8})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued"), answer.text
    old, new = (launches.launch(each["id"], store=store).config for each in (first, answer.json()))
    assert (old["limits"].pop("trials"), new["limits"].pop("trials")) == (5, 8)
    assert new == old


def test_the_log_is_read_on(client: TestClient, store: str) -> None:
    made = enqueue(store, "a")
    assert client.get(f"{API}/launches/{made.id}/log").json() == {"text": "", "next": 0, "ended": False}
    path = launches.log_file(made.id, store=store)
    path.parent.mkdir()
    path.write_text("first\n")
    assert client.get(f"{API}/launches/{made.id}/log").json() == {"text": "first\n", "next": 6, "ended": False}
    launches.stop("a", store=store)
    assert client.get(f"{API}/launches/{made.id}/log", params={"after": 6}).json()["ended"]
    assert client.get(f"{API}/launches/99/log").status_code == 404


def test_the_server_works_off_its_own_queue(
    serve: Callable[..., TestClient], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import autoprune.service.app as app

    monkeypatch.setattr(app, "Worker", lambda *given, **settings: Worker(*given, **settings, command=DRIVER))
    client = serve(parallel=1)
    made = client.post(f"{API}/launches", json=config("one")).json()
    assert ended(store, made["id"]).state is LaunchState.COMPLETE
    assert client.get(f"{API}/searches/one").json()["state"] == "complete"


# --- a store that goes away ------------------------------------------------------------------------------------------


def test_a_store_that_goes_away_and_comes_back(client: TestClient, store: str) -> None:
    file = Path(store.removeprefix("sqlite:///"))
    assert client.get(f"{API}/searches").status_code == 200
    file.rename(file.with_suffix(".away"))
    assert client.get(f"{API}/health").status_code == 503
    for method, path in [
        ("GET", "/searches"),
        ("GET", "/searches/s/front"),
        ("GET", "/launches"),
        ("POST", "/searches/s/stop"),
        ("DELETE", "/searches/s?confirm=s"),
    ]:
        answer = client.request(method, API + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert client.post(f"{API}/launches", json=config("new")).status_code == 503
    assert not file.exists(), "no new store in the place of the old one"
    file.with_suffix(".away").rename(file)
    assert client.get(f"{API}/searches").status_code == 200


def test_a_store_of_a_newer_schema_is_503(client: TestClient, store: str) -> None:
    import sqlite3

    file = Path(store.removeprefix("sqlite:///"))
    newer = file.with_name("newer.db")
    from tests.service.conftest import fill

    fill(f"sqlite:///{newer}")
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    newer.replace(file)
    answer = client.get(f"{API}/searches")
    assert answer.status_code == 503
    assert "schema version 99" in answer.json()["error"]["message"]
