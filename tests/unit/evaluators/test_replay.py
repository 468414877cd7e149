"""Recorded candidates: kept at once, found by every process, never measured twice."""

from __future__ import annotations

import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune.errors import ConfigError, NotFound, StoreError
from autoprune.evaluators.replay import Evaluation, RecordedTable, ReplayEvaluator
from autoprune.types import Candidate, Measurement

GROUPS = ("b", "a")
SMALL, LARGE = Candidate({"a": 4, "b": 8}), Candidate({"a": 16, "b": 32})
EVALUATION = Evaluation("e1", "s1", "inherit weights", {"top1": 0.9})


def measured(top1: float, loss: float = 0.25, seconds: float = 0.125) -> Measurement:
    return Measurement({"top1": top1, "loss": loss}, 100, seconds, True)


def table(tmp_path: Path) -> RecordedTable:
    return RecordedTable(tmp_path / "folder" / "t.jsonl.gz", GROUPS)


def journal(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "t.jsonl.gz.journal"


class Counting:
    """Measures top1 = width of a / 100 and counts."""

    def __init__(self) -> None:
        self.ran: list[Candidate] = []

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        self.ran.append(candidate)
        yield Measurement({"top1": 0.0}, 50, 0.1, False)
        yield measured(candidate.widths["a"] / 100)


def test_what_was_added_is_found_by_others_before_and_after_compaction(tmp_path: Path) -> None:
    first, other = table(tmp_path), table(tmp_path)
    first.describe(EVALUATION)
    first.add("e1", SMALL, measured(1 / 3, loss=0.123456789, seconds=0.00004))
    assert other.find("e1", SMALL) is None
    found = other.lookup_again("e1", SMALL)
    assert found is not None
    assert (found.metrics, found.seconds, found.final) == ({"top1": 1 / 3, "loss": 0.123457}, 0.0, True)
    first.compact()
    assert not journal(tmp_path).exists()
    assert other.add("e1", LARGE, measured(0.5)).metrics["top1"] == 0.5
    again = table(tmp_path)
    assert [again.find("e1", each) for each in (SMALL, LARGE)] == [found, other.find("e1", LARGE)]
    assert (again.evaluations, len(again), len(first)) == ((EVALUATION,), 2, 1)
    assert again.find("another", SMALL) is None


def test_the_first_measurement_counts(tmp_path: Path) -> None:
    first, other = table(tmp_path), table(tmp_path)
    kept = first.add("e1", SMALL, measured(0.5, seconds=1.0))
    assert other.add("e1", SMALL, measured(0.6, seconds=2.0)) == kept
    assert len(journal(tmp_path).read_text().splitlines()) == 2


def test_the_compressed_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    files = []
    for number, order in enumerate(((SMALL, LARGE), (LARGE, SMALL))):
        one = table(tmp_path / str(number))
        one.describe(EVALUATION)
        for candidate in order:
            one.add("e1", candidate, measured(candidate.widths["a"] / 100))
        one.compact()
        files.append(one.path.read_bytes())
    assert files[0] == files[1]
    lines = [json.loads(line) for line in gzip.decompress(files[0]).splitlines()]
    assert lines[0]["groups"] == ["b", "a"]
    assert lines[2:-1] == [["e1", [8, 4], 0.04, 0.25, 0.125], ["e1", [32, 16], 0.16, 0.25, 0.125]]
    assert list(lines[-1]) == ["sha256"]


def test_divergence_is_recorded(tmp_path: Path) -> None:
    table(tmp_path).add("e1", SMALL, measured(math.nan, loss=math.inf))
    found = table(tmp_path).find("e1", SMALL)
    assert found is not None
    assert all(math.isnan(value) for value in found.metrics.values())


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    table(tmp_path).add("e1", SMALL, measured(0.5))
    with journal(tmp_path).open("a") as file:
        file.write('["e1",[32,1')
    resumed = table(tmp_path)
    assert resumed.find("e1", SMALL) is not None
    resumed.add("e1", LARGE, measured(0.7))
    assert len(table(tmp_path)) == 2


def test_a_killed_recording_keeps_what_it_had(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from autoprune.evaluators.replay import RecordedTable\n"
        "from autoprune.types import Candidate, Measurement\n"
        "table = RecordedTable(Path(sys.argv[1]), ('b', 'a'))\n"
        "for width in range(1, 10**6):\n"
        "    table.add('e1', Candidate({'a': width, 'b': 8}), Measurement({'top1': 0.5, 'loss': 0.1}, 1, 0.1, True))\n"
        "    time.sleep(0.001)\n"
    )
    path = tmp_path / "t.jsonl.gz"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(RecordedTable(path, GROUPS)) < 20:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = RecordedTable(path, GROUPS)
    assert len(kept) >= 20
    kept.add("e1", LARGE, measured(0.7))
    kept.compact()
    assert len(RecordedTable(path, GROUPS)) == len(kept)


def test_only_what_is_missing_is_measured(tmp_path: Path) -> None:
    kept = table(tmp_path)
    evaluator = Counting()
    replay = ReplayEvaluator(kept, "e1", lambda: evaluator, "run")
    first, second, other = ([*replay.evaluate(each)] for each in (SMALL, SMALL, LARGE))
    assert first == second
    assert [each.final for each in (*first, *other)] == [True, True]
    assert (evaluator.ran, replay.measured) == ([SMALL, LARGE], 2)


def test_what_another_process_has_measured_meanwhile_is_taken(tmp_path: Path) -> None:
    evaluator = Counting()
    replay = ReplayEvaluator(table(tmp_path), "e1", lambda: evaluator, "run")
    table(tmp_path).add("e1", SMALL, measured(0.75))
    assert replay.measure(SMALL).metrics["top1"] == 0.75
    assert not evaluator.ran


def test_a_missing_candidate_is_named(tmp_path: Path) -> None:
    replay = ReplayEvaluator(table(tmp_path), "e1", None, "macs50, tpe, seed 3")
    with pytest.raises(NotFound, match=f"macs50, tpe, seed 3: candidate {SMALL.digest} is not in .*a 4, b 8") as caught:
        replay.measure(SMALL)
    assert "--recorded-only" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [b"text", gzip.compress(b"text\n"), gzip.compress(b'{"format": "2"}\n')],
    ids=["text", "packed text", "packed JSON"],  # those of pytest would hold the time
)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a table of recorded candidates"):
        RecordedTable(path, GROUPS)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    kept = table(tmp_path)
    kept.add("e1", SMALL, measured(0.5))
    kept.compact()
    kept.path.write_bytes(kept.path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match="is not a table of recorded candidates"):
        table(tmp_path)


def test_a_table_of_another_space_is_refused(tmp_path: Path) -> None:
    kept = table(tmp_path)
    kept.add("e1", SMALL, measured(0.5))
    kept.compact()
    with pytest.raises(ConfigError, match=r"recorded on another space: its groups are b, a\.\.\., this space has x"):
        RecordedTable(kept.path, ("x",))


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    journal(tmp_path).mkdir(parents=True)
    with pytest.raises(StoreError, match="Is a directory"):
        table(tmp_path)
