"""The report: one file, well-formed, everything in it, nothing injected."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from autoprune.analysis.front import build_front
from autoprune.analysis.report import write_report
from autoprune.types import Candidate, SearchRecord, SearchState, Trial, TrialState

BASELINE = {"top1": 0.92, "test_top1": 0.915, "macs": 40e6, "flops": 80e6, "params": 2.7e5}
CONFIG = {
    "name": "demo",
    "objectives": ["top1 max", "macs min"],
    "constraints": ["macs <= 0.8 * baseline"],
    "evaluator": {"validation_images": 2000},
    "store": "postgresql://ada:secret@db/prune",
}
VOID = {"meta", "br", "link", "img", "hr", "input"}


def trial(number: int, top1: float, macs: float, **changes: object) -> Trial:
    values = {
        "number": number,
        "candidate": Candidate({"layer1": 4 + number, "layer2<b>": 32}),
        "state": TrialState.COMPLETE,
        "metrics": {"top1": top1, "macs": macs, "flops": 2 * macs, "params": macs / 200},
        "timings": {"calibrate": 0.5, "evaluate": 1.5},
        "finished_at": float(number),
        **changes,
    }
    return Trial(**values)  # type: ignore[arg-type]


TRIALS = [
    trial(0, 0.91, 30e6, metrics={"top1": 0.91, "macs": 30e6, "flops": 60e6, "params": 1.5e5, "test_top1": 0.905}),
    trial(1, 0.88, 20e6),
    trial(2, 0.80, 25e6, duplicate_of="other/7", timings={"calibrate": 100.0}),
    trial(3, 0.0, 0.0, state=TrialState.FAILED, metrics={}, timings={}, reason="<script>alert(1)</script> & co"),
]


class Checker(HTMLParser):
    """Balanced tags, and every tag and attribute that was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def render(tmp_path: Path, trials: list[Trial], **extra: object) -> tuple[str, Checker]:
    record = SearchRecord("demo", "a" * 16, "b" * 16, CONFIG, BASELINE, SearchState.COMPLETE, 0.0, 1.0)
    front = build_front("demo", trials, baseline=BASELINE)
    path = write_report(
        tmp_path / "new" / "report.html",
        record=record,
        trials=trials,
        front=front,
        facts={"torch": "2.13 <cpu>"},
        **extra,
    )  # type: ignore[arg-type]
    page = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return page, checker


def test_page_is_well_formed_and_needs_nothing_else(tmp_path: Path) -> None:
    page, checker = render(tmp_path, TRIALS)
    assert "script" not in checker.tags
    assert "link" not in checker.tags
    assert all(link.startswith("#") for link in checker.links)
    assert not re.search(r"url\((?!#)", page)
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 500_000


def test_page_says_what_was_searched_and_how_to_repeat_it(tmp_path: Path) -> None:
    _, checker = render(tmp_path, TRIALS)
    text = checker.text
    for expected in (
        "top1 max, macs min",
        "Budgets: macs <= 0.8 * baseline",
        "multiply-accumulates of one forward pass at batch 1",
        "30.0M (75.0 %)",
        "91.00 %",
        "autoprune search demo.yaml",
        "validation_images: 2000",
        "2.13 <cpu>",
        "3 complete, 1 failed",
        "1 of them looked up",
    ):
        assert expected in text, expected


def test_accuracies_say_which_split_they_are_from(tmp_path: Path) -> None:
    _, checker = render(tmp_path, TRIALS)
    assert "is measured on the search-val split (at most 2000 images)" in checker.text
    assert "is measured on the test split, which was opened once" in checker.text
    assert "90.50 %" in checker.text
    without = [each for each in TRIALS if each.number != 0]
    record = SearchRecord("demo", "a", "b", CONFIG, {"top1": 0.9, "macs": 4e7}, SearchState.COMPLETE, 0.0, 1.0)
    front = build_front("demo", without, baseline=record.baseline)
    page = write_report(tmp_path / "r.html", record=record, trials=without, front=front).read_text(encoding="utf-8")
    assert "The test split was not opened." in page


def test_strings_are_escaped_and_passwords_kept_back(tmp_path: Path) -> None:
    page, checker = render(tmp_path, TRIALS)
    assert "<script>alert(1)</script> & co" in checker.text
    assert "layer2<b>" in checker.text
    assert "secret" not in page
    assert "ada:***@db/prune" in page


def test_timings_leave_out_trials_that_were_not_run(tmp_path: Path) -> None:
    _, checker = render(tmp_path, TRIALS)
    assert re.search(r"evaluate 1\.5000 75\.0 %", checker.text)
    assert re.search(r"calibrate 0\.5000 25\.0 %", checker.text)
    assert "75 % of the workers' time goes into scoring validation images" in checker.text


def test_widths_are_shares_of_the_baseline_channels(tmp_path: Path) -> None:
    page, checker = render(tmp_path, TRIALS, channels={"layer1": 16, "layer2<b>": 64})
    assert "of the channels in the baseline" in checker.text
    assert "4 / 16" in checker.text
    assert "width:25.0%" in page
    assert "width:50.0%" in page
    assert "the most channels that any trial kept" in render(tmp_path, TRIALS)[1].text


@pytest.mark.parametrize("trials", [[], TRIALS[3:], TRIALS[1:2]], ids=["none", "failed", "one"])
def test_short_searches_have_a_report_too(tmp_path: Path, trials: list[Trial]) -> None:
    _, checker = render(tmp_path, trials)
    assert ("Convergence" in checker.text) == any(each.state is TrialState.COMPLETE for each in trials)
