"""What the commands that read a store import: a query should cost its answer, not the libraries of a search."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autoprune.store import new_owner, open_store
from autoprune.types import Candidate, Trial, TrialState

UNUSED = (
    *("torch", "ray", "optuna", "scipy", "pandas", "moocore", "sklearn", "matplotlib", "plotly", "jinja2", "yaml"),
    *("rich", "autoprune.config.schema", "autoprune.driver.session", "autoprune.analysis.plots"),
)
BASELINE = {"top1": 0.9, "macs": 100.0, "params": 10.0}


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with open_store(url) as opened:
        opened.create_search("s", config={}, digest="d", evaluation_digest="e", baseline=BASELINE)
        lease = opened.claim("s", owner=new_owner(), ttl_seconds=60)
        for number, top1 in enumerate((0.5, 0.7)):
            trial = Trial(number, Candidate({"g": number + 1}), TrialState.RUNNING)
            opened.start_trial(lease, trial)
            metrics = {"top1": top1, "macs": 40.0 + number, "params": 5.0}
            done = Trial(number, trial.candidate, TrialState.COMPLETE, metrics, finished_at=2.0)
            opened.finish_trial(lease, done, {})
        opened.release(lease)
    return url


@pytest.mark.parametrize(
    "arguments",
    [
        ["searches"],
        ["trials", "s"],
        ["front", "s", "--where", "macs <= 0.5 * baseline", "--where", "params <= 1k"],
        ["front", "s", "--format", "json"],
        ["select", "s", "--where", "macs <= 0.5 * baseline"],
    ],
    ids=" ".join,
)
def test_a_query_imports_only_what_it_uses(store: str, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom autoprune.cli.main import main\n"
        f"try: main({[*arguments, '--store', store]!r})\n"
        f"finally: print([name for name in {UNUSED!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout
    assert done.stderr.strip() == "[]"
