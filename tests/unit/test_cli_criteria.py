"""``autoprune criteria`` in its three forms."""

from __future__ import annotations

import csv
import io
import json

import pytest

from autoprune.cli.main import main
from autoprune.pruning import criteria


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as leaving:
        main(["criteria", *arguments])
    assert not leaving.value.code
    return capsys.readouterr().out


def test_all_criteria_are_listed_with_needs_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    table = printed(capsys)
    assert all(f" {name} " in table for name in criteria.names())
    rows = {row["criterion"]: row for row in csv.DictReader(io.StringIO(printed(capsys, "--format", "csv")))}
    assert sorted(rows) == criteria.names()
    assert rows["taylor"]["needs"] == "images, labels"
    assert rows["taylor"]["options"] == "fallback=group_l2, reduce=mean_abs"
    content = {each["name"]: each for each in json.loads(printed(capsys, "--format", "json"))}
    assert content["fpgm"]["options"] == {"norm_share": 0.0}
    assert content["fpgm"]["configuration"]["properties"]["norm_share"]["exclusiveMaximum"] == 1
