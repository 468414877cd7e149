"""Figures per node: from workers' totals to sentences, the report and JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoprune import api
from autoprune.analysis.nodes import node_figures, nodes_in_words
from autoprune.cli.main import app
from autoprune.store import new_owner, open_store, queries
from autoprune.types import Candidate, Trial, TrialState, WorkerTotals

COMPLETE, FAILED, RUNNING = TrialState.COMPLETE, TrialState.FAILED, TrialState.RUNNING


def test_workers_of_one_node_add_up() -> None:
    totals = [
        WorkerTotals("10.0.0.7/aa:1", COMPLETE, 5, 10.0),
        WorkerTotals("10.0.0.7/aa:2", COMPLETE, 3, 6.0),
        WorkerTotals("10.0.0.7/aa:2", FAILED, 1, 0.5),
        WorkerTotals("10.0.0.7/bb:1", COMPLETE, 1, 2.0),  # another node of the same machine
        WorkerTotals("10.0.0.7/bb:9", RUNNING, 1, 0.0),
    ]
    first, second = node_figures(totals, active_seconds=30.0)
    assert (first.node, first.workers, first.trials, first.failures) == ("10.0.0.7/aa", 2, 9, 1)
    assert (first.busy_seconds, first.trials_per_minute, first.share) == (16.5, 18.0, 0.9)
    assert (second.node, second.workers, second.trials, second.share) == ("10.0.0.7/bb", 1, 1, 0.1)
    words = nodes_in_words([first, second])
    assert words == (
        "2 nodes: 10.0.0.7/aa 9 trials (90 %, 18.0 a minute, 1 failed), 10.0.0.7/bb 1 trials (10 %, 2.0 a minute)"
    )


def test_one_node_needs_no_words() -> None:
    (only,) = node_figures([WorkerTotals("serial", COMPLETE, 4, 1.0)], active_seconds=0.0)
    assert (only.node, only.workers) == ("serial", 1)
    assert math.isnan(only.trials_per_minute)
    assert nodes_in_words([only]) == ""
    assert node_figures([], 1.0) == []


@pytest.fixture
def stored(tmp_path: Path) -> str:
    """Five trials by three workers on two nodes, one of them looked up."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with open_store(url) as store:
        store.create_search(
            "s",
            config={"objectives": ["top1 max", "macs min"], "output": str(tmp_path)},
            digest="d",
            evaluation_digest="e",
            baseline={"top1": 0.9, "macs": 100.0},
            channels={"g": 8},
        )
        lease = store.claim("s", owner=new_owner(), ttl_seconds=60.0)
        ends = [("10.0.0.7/aa:1", ""), ("10.0.0.7/aa:2", ""), ("10.0.0.8/bb:1", ""), ("", "s/0"), ("10.0.0.7/aa:1", "")]
        for number, (worker, origin) in enumerate(ends):
            candidate = Candidate({"g": number + 1})
            store.start_trial(lease, Trial(number, candidate, RUNNING))
            metrics = {"top1": 0.5 + number / 100, "macs": 10.0 + number}
            timings = {} if origin else {"evaluate": 0.5, "report": 0.25, "wait": 100.0}
            done = Trial(number, candidate, COMPLETE, metrics, worker=worker, duplicate_of=origin, timings=timings)
            store.finish_trial(lease, done, {})
        store.release(lease)
    return url


def test_a_store_knows_what_each_worker_did(stored: str) -> None:
    with open_store(stored) as store:
        totals = {each.worker: each for each in store.worker_totals("s")}
    assert {name: each.trials for name, each in totals.items()} == {
        "10.0.0.7/aa:1": 2,
        "10.0.0.7/aa:2": 1,
        "10.0.0.8/bb:1": 1,
    }
    assert {name: each.seconds for name, each in totals.items()} == {
        "10.0.0.7/aa:1": 1.5,
        "10.0.0.7/aa:2": 0.75,
        "10.0.0.8/bb:1": 0.75,
    }


def test_some_of_many_trials_stand_for_all(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_TIMED", 2)
    with open_store(stored) as store:
        totals = {each.worker: (each.trials, each.seconds) for each in store.worker_totals("s")}
    assert totals["10.0.0.7/aa:1"] == (2, 1.5)
    assert totals["10.0.0.7/aa:2"] == (1, 0.75), "not among those that were read: as the others"


def test_the_report_shows_each_node(stored: str, tmp_path: Path) -> None:
    page = (api.report("s", store=stored, out=tmp_path / "r") / "report.html").read_text()
    assert "<h3>Nodes</h3>" in page
    row = page[page.index("10.0.0.7/aa") :].partition("</tr>")[0]
    assert "<td>2</td><td>3</td><td>75.0 %</td><td>0</td>" in row


def test_as_json_and_csv(stored: str, tmp_path: Path) -> None:
    run = CliRunner().invoke
    given = ["report", "s", "--store", stored, "--out", str(tmp_path / "r")]
    found = json.loads(run(app, [*given, "--format", "json"]).stdout)
    assert found["report"] == str(tmp_path / "r")
    assert [(node["node"], node["trials"]) for node in found["nodes"]] == [("10.0.0.7/aa", 3), ("10.0.0.8/bb", 1)]
    lines = run(app, [*given, "--format", "csv"]).stdout.splitlines()
    assert lines[0].startswith("node,workers,trials,failures")
    assert run(app, given).stdout == f"{tmp_path / 'r'}\n"
