"""How far a command is, on stderr: a live bar on a terminal, a line every ten seconds elsewhere, or nothing."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from autoprune.cli.formatting import format_duration, format_metric
from autoprune.cli.output import said_unless_full
from autoprune.types import Trial, TrialState

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from autoprune.protocols import Progress

__all__ = ["LineProgress", "LiveProgress", "SilentProgress", "Tally", "make_progress"]

_LINE_SECONDS = 10.0
_AS_GOOD = 0.01
"""Top-1 accuracy (a fraction) that a pruned model may lose and still count as good as the baseline."""

_TITLES = {
    "data": "preparing data",
    "base": "base model",
    "hypernet": "hypernetwork",
    "groups": "finding prunable groups",
    "scores": "scoring the channels",
    "baseline": "measuring the baseline",
    "search": "searching",
    "test split": "scoring on the test split",
}
"""What the phases of the api are called on the screen; others keep their name."""


@contextmanager
def make_progress(*, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """The progress that suits the place where stderr goes."""
    target = sys.stderr if stream is None else stream
    if quiet:
        yield SilentProgress()
    elif target.isatty():
        with LiveProgress(target) as live:
            yield live
    else:
        lines = LineProgress(target)
        yield lines
        lines.close()


class Tally:
    """Counts the trials of a run and knows the best one: what the progress lines say about a search."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: float | None = None
        self._running: set[int] = set()
        self._baseline: Mapping[str, float] = {}
        self._best = ""
        self.finished = 0
        self.stopped = 0
        self.failed = 0

    def on_baseline(self, metrics: Mapping[str, float]) -> None:
        self._baseline = dict(metrics)

    def on_trial(self, trial: Trial) -> bool:
        """Returns whether the trial finished now."""
        if self._started is None:
            self._started = self._clock()
        if trial.state is TrialState.RUNNING:
            self._running.add(trial.number)
            return False
        self._running.discard(trial.number)
        self.finished += 1
        self.stopped += trial.state is TrialState.STOPPED
        self.failed += trial.state is TrialState.FAILED
        return True

    def on_front(self, front: Sequence[Trial]) -> None:
        scored = [trial for trial in front if math.isfinite(trial.metrics.get("top1", math.nan))]
        if not scored:
            return
        # the most accurate trial is often hardly pruned; the cheapest that is as good as the baseline says more
        wanted = self._baseline.get("top1", math.inf) - _AS_GOOD
        good = [trial for trial in scored if trial.metrics["top1"] >= wanted and "macs" in trial.metrics]
        if good:
            best, name = min(good, key=lambda trial: trial.metrics["macs"]), "best within a point of the baseline: top1"
        else:
            best, name = max(scored, key=lambda trial: trial.metrics["top1"]), "best top1"
        macs = format_metric("macs", best.metrics, self._baseline)
        self._best = f"{name} {format_metric('top1', best.metrics)} at {macs} MACs, front of {len(front)}"

    @property
    def per_minute(self) -> float:
        """Finished trials a minute since the first one started; NaN before the first end."""
        elapsed = 0.0 if self._started is None else self._clock() - self._started
        return 60.0 * self.finished / elapsed if self.finished and elapsed > 0 else math.nan

    def text(self) -> str:
        """``88 trials/min, 2 running, best top1 93.40 % at 20.3M (49.8 %) MACs, front of 9, 12 stopped, 1 failed``."""
        parts = []
        if math.isfinite(self.per_minute):
            parts.append(f"{self.per_minute:.0f} trials/min")
        if self._running:
            parts.append(f"{len(self._running)} running")
        if self._best:
            parts.append(self._best)
        if self.stopped:
            parts.append(f"{self.stopped} stopped")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)


class SilentProgress:
    """``--quiet``."""

    def phase(self, name: str, total: int | None = None) -> None:
        pass

    def advance(self, text: str = "", step: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def on_baseline(self, metrics: Mapping[str, float]) -> None:
        pass

    def on_trial(self, trial: Trial) -> None:
        pass

    def on_front(self, front: Sequence[Trial]) -> None:
        pass


class LineProgress:
    """For logs: a line when a phase begins and ends, and one every ten seconds in between."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._tally = Tally(clock)
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._text = ""
        self._began = self._spoke = clock()

    def phase(self, name: str, total: int | None = None) -> None:
        self._end_phase()
        self._name, self._total, self._done, self._text = _TITLES.get(name, name), total, 0, ""
        self._began = self._spoke = self._clock()
        self._print(f"{self._name}..." if total is None else f"{self._name} (of {total})...")

    def advance(self, text: str = "", step: int = 1) -> None:
        self._done += step
        self._text = text or self._text
        if self._clock() - self._spoke >= _LINE_SECONDS:
            self._spoke = self._clock()
            self._print(self._line())

    def note(self, text: str) -> None:
        self._print(text)

    def on_baseline(self, metrics: Mapping[str, float]) -> None:
        self._tally.on_baseline(metrics)

    def on_trial(self, trial: Trial) -> None:
        finished = self._tally.on_trial(trial)
        self.advance(self._tally.text(), step=int(finished))

    def on_front(self, front: Sequence[Trial]) -> None:
        self._tally.on_front(front)

    def close(self) -> None:
        self._end_phase()

    def _end_phase(self) -> None:
        if self._name and self._text:
            self._print(f"{self._line()}, took {format_duration(self._clock() - self._began)}")

    def _line(self) -> str:
        count = f" {self._done}" + (f" of {self._total}" if self._total is not None else "") if self._done else ""
        return f"{self._name}{count}" + (f": {self._text}" if self._text else "")

    def _print(self, text: str) -> None:
        said_unless_full(self._stream, text)


class LiveProgress:
    """For a terminal: a bar with the time left, and below it what is known about the search."""

    def __init__(self, stream: TextIO) -> None:
        self._bar = _two_line_bar(stream)
        self._tally = Tally()
        self._task: Any = None

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._bar.stop()

    def phase(self, name: str, total: int | None = None) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(_TITLES.get(name, name), total=total, status="")

    def advance(self, text: str = "", step: int = 1) -> None:
        if self._task is None:
            self.phase("working")
        self._bar.advance(self._task, step)
        if text:
            self._bar.update(self._task, status=text)

    def note(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)

    def on_baseline(self, metrics: Mapping[str, float]) -> None:
        self._tally.on_baseline(metrics)

    def on_trial(self, trial: Trial) -> None:
        self.advance(step=int(self._tally.on_trial(trial)))
        self._bar.update(self._task, status=self._tally.text())

    def on_front(self, front: Sequence[Trial]) -> None:
        self._tally.on_front(front)


def _two_line_bar(stream: TextIO) -> RichProgress:
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class TimeLeft(TimeRemainingColumn):
        """Nothing where the text below says it: a training knows its own pace, also before its first epoch ends."""

        def render(self, task: Task) -> Text:
            return Text() if " left" in task.fields["status"] else super().render(task)

    class TwoLines(RichProgress):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield from (
                Text(f"  {task.fields['status']}", style="cyan") for task in self.tasks if task.fields["status"]
            )

    return TwoLines(
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeLeft(elapsed_when_finished=True),
        console=Console(file=stream),
        transient=True,
        expand=True,
    )
