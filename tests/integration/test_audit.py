"""``autoprune audit`` on the digits, with trainings of an epoch."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from autoprune import api
from autoprune.cli.main import main

OPTIONS = ("--candidates", "6", "--seeds", "2", "--epochs", "1", "--arm", "finetune:share=1")


def run(capsys: pytest.CaptureFixture[str], *arguments: str, quiet: bool = True) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main([*arguments, *(["--quiet"] if quiet else [])])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


def test_an_audit_is_run_once_and_shown_where_models_are_chosen(
    workplace: Path, launch: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    api.search(launch)
    first = api.audit("small", candidates=6, seeds=2, arm="finetune:share=1", overrides=["epochs=1"])
    assert (first.ran, first.missing) == (12, 0)
    assert first.audit.main.n == 6
    assert first.audit.complete == 10
    assert all(len(item.seeds) == 2 for item in first.audit.sample)
    trials = {trial.number: trial for trial in api.trials("small")}
    for item in first.audit.sample:
        assert item.proxies["top1"] == trials[item.trial].metrics["top1"]
    best = max(trials.values(), key=lambda trial: trial.metrics["top1"])
    assert best.number in {item.trial for item in first.audit.sample} or len(first.audit.results) > 1

    code, out, _ = run(capsys, "audit", "small", *OPTIONS, "--format", "json")
    assert code == 0
    content = json.loads(out)
    assert content["warning"], "six candidates cannot do without one"
    assert api.stored_audits("small")[0]["short"] == content["short"]
    assert json.loads((first.output / "audit.json").read_text())["candidates"] == content["candidates"]

    code, out, err = run(capsys, "select", "small", "--where", "macs <= 0.9 * baseline", quiet=False)
    assert content["warning"] in err
    assert content["warning"] not in out
    quick = {"trials": [5], "arms": ["finetune:share=1"], "seeds": 2, "overrides": ["epochs=1"]}
    compared = api.compare("small", **quick)
    shared = 2 if 5 in {item.trial for item in first.audit.sample} else 0
    assert compared.ran == 6 - shared, "two seeds of dense, trial and uniform widths, less what the audit trained"
    assert any(content["short"] in text for text in compared.comparison.audits)
    assert content["short"] in (api.report("small") / "report.html").read_text()

    for arguments, expected, words in [
        (("smal",), 3, "Did you mean 'small'"),
        (("small", "--candidates", "4"), 2, "fewer than 5"),
        (("small", "--seeds", "0"), 2, "at least one"),
        (("small", "--arm", "finetune_cosin"), 2, "Did you mean 'finetune_cosine'"),
        (("small", "--arm", "hypernet"), 2, "needs a hypernetwork"),
        (("small", "--epochs", "0"), 2, "epochs"),
        (("small", "--executor", "slurm"), 2, "no executor 'slurm'"),
        (("small", "--out", "results/autoprune.db/inside"), 2, "cannot be made"),
    ]:
        code, out, err = run(capsys, "audit", *arguments)
        assert (code, out) == (expected, ""), (arguments, err)
        assert words in err, (arguments, err)


def test_searches_that_cannot_be_audited(
    workplace: Path, launch: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    api.search({**launch, "limits": {"trials": 3}})
    code, _, err = run(capsys, "audit", "small")
    assert code == 3
    assert "has 3 complete trials of different widths" in err
    assert "autoprune resume small --trials" in err
    with sqlite3.connect("results/autoprune.db") as connection:
        connection.execute("update trials set state = 'failed'")
    code, _, err = run(capsys, "audit", "small")
    assert code == 3
    assert "has 0 complete trials" in err
    assert api.stored_audits("small") == []
