"""Prometheus' page: it parses, its names keep the conventions, and its numbers are those of the store."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from autoprune.api.launches import enqueue
from autoprune.api.reader import Reader
from autoprune.api.vitals import Vitals, kind_of
from autoprune.config.loading import load_search
from autoprune.errors import NotFound
from autoprune.service.counting import Requests
from autoprune.service.exposition import Family, histogram, text
from autoprune.store import new_owner, open_store
from autoprune.store.removal import remove_search
from autoprune.types import Candidate, Trial, TrialState

SAMPLE = re.compile(r'([a-z_:][a-z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+-]+)')
Page = dict[str, dict[frozenset[tuple[str, str]], float]]


def parsed(content: str) -> Page:
    """Name -> labels -> value. Each family in one place, HELP and TYPE before its samples, no sample twice."""
    found: Page = {}
    kinds: dict[str, str] = {}
    family = ""
    assert content.endswith("\n")
    for line in content.splitlines():
        if line.startswith("# HELP "):
            family, means = line.removeprefix("# HELP ").split(" ", 1)
            assert family not in kinds
            assert means[0].isupper()
            assert means.endswith(".")
        elif line.startswith("# TYPE "):
            named, kinds[family] = line.removeprefix("# TYPE ").split(" ")
            assert named == family
        else:
            matched = SAMPLE.fullmatch(line)
            assert matched, line
            name, labels, value = matched.groups()
            endings = ("_bucket", "_sum", "_count") if kinds[family] == "histogram" else ("",)
            assert name.removeprefix(family) in endings
            key = frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or ""))
            assert key not in found.setdefault(name, {})
            found[name][key] = float(value)
    for family, kind in kinds.items():
        assert family.startswith("autoprune_")
        assert kind in ("counter", "gauge", "histogram")
        assert family.endswith("_total") == (kind == "counter")
        assert not re.search(r"_(ms|minutes|percent)\b", family)
    return found


def page(client: TestClient) -> Page:
    answer = client.get("/api/v1/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parsed(answer.text)


def value(found: Page, name: str, **labels: str) -> float:
    return found[f"autoprune_{name}"][frozenset(labels.items())]


def test_numbers_are_those_of_the_store(serve: Callable[..., TestClient], store: str) -> None:
    client = serve()
    client.get("/api/v1/searches/none")
    found = page(client)
    assert value(found, "searches", state="complete") == 1
    assert value(found, "searches", state="running") == 0
    assert value(found, "trials", state="complete") == 5
    assert value(found, "search_trials", search="s", state="stopped") == 1
    assert value(found, "search_trials_limit", search="s") == 9
    assert value(found, "front_size", search="s") == 3
    assert 0 < value(found, "front_hypervolume_ratio", search="s") <= 1
    assert value(found, "trial_failures_total", search="s", kind="error") == 1
    assert value(found, "trial_retries_total", search="s") == 0
    assert value(found, "store_up") == 1
    assert value(found, "drivers") == value(found, "queue_length") == 0
    assert "autoprune_lease_age_seconds" not in found
    assert value(found, "requests_total", method="GET", status="404") == 1
    assert value(page(client), "request_seconds_count") == 2
    assert value(found, "store_read_seconds") > 0


def test_drivers_leases_and_the_queue(serve: Callable[..., TestClient], store: str) -> None:
    config = load_search(
        {"name": "q", "space": {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}}
    )
    enqueue(config, store=store)
    client = serve()
    with open_store(store) as opened:
        lease = opened.claim("s", owner=new_owner(), ttl_seconds=60)
        opened.start_trial(lease, Trial(7, Candidate({"a": 1, "b": 16}), TrialState.RUNNING))
        opened.retry_trial(lease, 7)
        opened.retry_trial(lease, 7)
        found = page(client)
        assert value(found, "drivers") == 1
        assert 0 <= value(found, "lease_age_seconds", search="s") < 60
        assert value(found, "queue_length") == value(found, "launches", state="queued") == 1
        assert value(found, "trial_retries_total", search="s") == 2
        opened.release(lease)
        assert value(page(client), "drivers") == 0


def test_the_page_comes_without_a_store(serve: Callable[..., TestClient], tmp_path: Path) -> None:
    client = serve()
    os.rename(tmp_path / "a.db", tmp_path / "b.db")
    found = page(client)
    assert value(found, "store_up") == 0
    assert "autoprune_searches" not in found
    os.rename(tmp_path / "b.db", tmp_path / "a.db")
    assert value(page(client), "store_up") == 1


def test_nothing_is_read_again_while_nothing_changes(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(store)
    vitals = Vitals(reader)
    made: list[str] = []
    found = Vitals._found
    monkeypatch.setattr(Vitals, "_found", lambda self, name: (made.append(name), found(self, name))[1])
    assert vitals.of("s") is vitals.of("s")
    with open_store(store) as opened:
        opened.add_metrics("s", 0, {"test_top1": 0.5})
        vitals._kept = {name: type(kept)(kept.stamp, 0.0, kept.vitals) for name, kept in vitals._kept.items()}
        vitals.of("s")
        assert made == ["s", "s"]
        remove_search(opened, "s")
    with pytest.raises(NotFound):
        vitals.of("s")
    vitals.forget(set())
    assert not vitals._kept
    reader.close()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("exceeded trial_seconds=5 and was killed: raise limits.trial_seconds", "timeout"),
        ("took longer than 5 s: raise limits.trial_seconds", "timeout"),
        ("out of memory: the worker held 3 GB", "out_of_memory"),
        ("worker process died (killed or out of memory)", "worker_died"),
        ("the evaluator does not measure top1; it measures loss", "no_measurement"),
        ("ValueError: 'x'", "error"),
    ],
)
def test_reasons_have_few_kinds(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind


def test_labels_are_escaped_and_buckets_add_up() -> None:
    odd: Any = 'a"b\\c\nd'
    found = parsed(text([Family("x", "gauge", "It is odd.").add(0.1 + 0.2, name=odd)]))
    assert found == {"autoprune_x": {frozenset({("name", 'a\\"b\\\\c\\nd')}): 0.3}}
    requests = Requests()
    for seconds in (0.004, 0.005, 0.3, 99.0):
        requests.add("GET", 200, seconds)
    answers = requests.read()
    found = parsed(text([histogram("s", "Seconds.", (0.005, 0.5), (2, 1, 1), answers.seconds)]))
    assert list(found["autoprune_s_bucket"].values()) == [2, 3, 4]
    assert found["autoprune_s_count"] == {frozenset(): 4}
    assert answers.classes[0] == 2
    assert answers.classes[-1] == 1
