"""The log: one JSON object a line, stable events, no secrets, a bound on its size, several writers of one file."""

from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import autoprune
from autoprune import logs
from autoprune.driver.logged import LoggedTrials, log_begin, log_end, log_retry
from autoprune.errors import ConfigError
from autoprune.types import Candidate, Outcome, OutcomeKind, SearchRecord, SearchState, Trial, TrialState

_log = logging.getLogger("autoprune.test")
PACKAGE = Path(autoprune.__file__).parent


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_when_what_and_about_which_search(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "a.jsonl"
    with logs.writing(str(file)), logs.about(search="one"):
        logs.emit(_log, logging.WARNING, "trial.retried", "trial %d: %s", 3, "why", trial=3, worker="", attempt=2)
        _log.info("plain")
        _log.debug("too low")
    _log.warning("after")
    first, second = lines(file)
    assert first.pop("time").endswith("Z")
    assert first.pop("pid") > 0
    assert first == {
        **{"level": "warning", "event": "trial.retried", "search": "one", "trial": 3, "attempt": 2},
        **{"message": "trial 3: why", "logger": "autoprune.test"},
    }
    assert (second["event"], second["message"], second["search"]) == ("log", "plain", "one")


def test_levels_choose_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    with logs.writing(str(tmp_path / "a"), "error"):
        _log.warning("no")
        _log.error("yes")
    assert [line["message"] for line in lines(tmp_path / "a")] == ["yes"]
    with pytest.raises(ConfigError, match="Known: debug"), logs.writing(str(tmp_path / "a"), "loud"):
        pass
    assert logging.getLogger("autoprune").level == logging.NOTSET


@pytest.mark.parametrize("name", ["", "file/b"])
def test_a_file_that_cannot_be_written_is_said_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), logs.writing(str(tmp_path / name)):
        pass


def test_a_full_disk_is_said_once_and_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.writing("/dev/full"):
        for _ in range(3):
            _log.error("lost")
    err = capsys.readouterr().err
    assert err.count("cannot be written") == 1
    assert "Traceback" not in err


SECRETS = [
    "postgresql://me:hush@db/x",
    "Authorization: Bearer hush",
    "bearer hush",
    "token=hush&x=1",
    '{"password": "hush"}',
    "api_key: hush",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_masked_wherever_they_stand(tmp_path: Path, text: str) -> None:
    with logs.writing(str(tmp_path / "a")):
        try:
            raise ValueError(text)
        except ValueError as error:
            logs.emit(_log, logging.ERROR, "log", "said %s", text, exc_info=error, reason=text)
    content = (tmp_path / "a").read_text()
    assert "hush" not in content
    assert "***" in content


def test_what_is_not_secret_stays() -> None:
    for text in ("8 tokens left", "the token is missing", "secretary: Ann", "sqlite:///a:b@c.db"):
        assert logs.masked(text) == text


def test_the_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_BYTES", 2000)
    monkeypatch.setattr(logs, "_KEPT", 2)
    with logs.writing(str(tmp_path / "a")):
        for number in range(100):
            _log.warning("message %d", number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["a", "a.1", "a.2"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert lines(tmp_path / "a")[-1]["message"] == "message 99"
    kept = [line["message"] for name in ("a.2", "a.1", "a") for line in lines(tmp_path / name)]
    assert kept == [f"message {number}" for number in range(100 - len(kept), 100)]


WRITER = """
import logging, sys
from autoprune import logs
logs._BYTES, logs._KEPT = 20_000, 50
with logs.writing(sys.argv[1]):
    for number in range(400):
        logging.getLogger("autoprune.x").warning("%s-%d", sys.argv[2], number)
"""


def test_processes_that_share_a_file_lose_no_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a")]
    writers = [subprocess.Popen([*command, name], stderr=subprocess.DEVNULL) for name in "xyz"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    said = sorted(line["message"] for file in tmp_path.iterdir() for line in lines(file))
    assert said == sorted(f"{name}-{number}" for name in "xyz" for number in range(400))


def test_children_write_the_same_file(tmp_path: Path) -> None:
    with logs.writing(str(tmp_path / "a"), "debug"):
        found = logs.child_environment()
        assert (found[logs.FILE], found[logs.LEVEL]) == (str(tmp_path / "a"), "debug")
    assert logs.FILE not in logs.child_environment()


def test_warnings_still_reach_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        with logs.writing(str(tmp_path / "a"), "debug"):
            _log.warning("seen")
            _log.info("not seen")
    finally:
        root.handlers = before
    assert capsys.readouterr().err == "seen\n"


# --- events ----------------------------------------------------------------------------------------------------------


def test_every_event_is_documented_and_used() -> None:
    used = {"log"}
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "logs.py"}
    for path, source in sources.items():
        for node in ast.walk(ast.parse(source)) if "emit(" in source else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= {node.value} & logs.EVENTS.keys()
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "emit":
                event = node.args[2]
                assert not isinstance(event, ast.Constant) or event.value in logs.EVENTS, path
    assert used == logs.EVENTS.keys()


def test_a_search_and_its_trials_are_told(tmp_path: Path) -> None:
    record = SearchRecord("one", "d", "e", {}, {}, SearchState.RUNNING, 1.0, 1.0)
    observer = LoggedTrials("one")
    running = Trial(4, Candidate({"a": 1}), TrialState.RUNNING, started_at=10.0, attempt=2)
    ended = {**running.__dict__, "finished_at": 12.5, "worker": "w"}
    with logs.writing(str(tmp_path / "a")):
        log_begin(record, 0, 60)
        log_begin(SearchRecord(**{**record.__dict__, "trial_counts": {"complete": 3}}), 3, 60)
        observer.on_trial(running)
        log_retry("one", 4, Outcome(OutcomeKind.ACCIDENT, reason="token=abc died", worker="w"))
        observer.on_trial(Trial(**{**ended, "state": TrialState.COMPLETE}))
        observer.on_trial(Trial(**{**ended, "state": TrialState.COMPLETE, "duplicate_of": "one/1"}))
        observer.on_trial(Trial(**{**ended, "state": TrialState.FAILED, "reason": "it died"}))
        log_end("one", SearchState.INTERRUPTED, "interrupted")
    found = lines(tmp_path / "a")
    assert [line["event"] for line in found] == [
        *("search.started", "search.resumed", "trial.started", "trial.retried", "trial.finished", "trial.reused"),
        *("trial.failed", "search.ended"),
    ]
    assert {line["search"] for line in found} == {"one"}
    assert [line.get("trial") for line in found] == [None, None, 4, 4, 4, 4, 4, None]
    assert (found[4]["state"], found[4]["seconds"], found[4]["worker"]) == ("complete", 2.5, "w")
    assert (found[6]["level"], found[6]["reason"]) == ("warning", "it died")
    assert found[3]["reason"] == "token=*** died"
    assert (found[7]["state"], found[7]["reason"]) == ("interrupted", "interrupted")
