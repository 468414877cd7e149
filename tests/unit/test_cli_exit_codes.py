"""Exit codes are documented where the command prints them, each of them and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoprune import errors
from autoprune.cli import failures, findings, main

ROOT = Path(__file__).resolve().parents[2]


def raised() -> set[int]:
    kinds = [errors.AutopruneError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {kind.exit_code for kind in kinds}


def documented() -> dict[int, str]:
    listed = main._EPILOG.partition("Exit codes:\n")[2]
    return {int(code): means for code, means in re.findall(r"^  (\d+) +(\S.*)$", listed, re.MULTILINE)}


def test_help_lists_every_exit_code() -> None:
    left = {0, findings.PROBLEM, failures.DEFECT, failures.INTERRUPTED, 141}
    assert documented().keys() == raised() | left


def test_the_tree_of_errors_says_the_codes_that_they_have() -> None:
    said = dict(re.findall(r"(\w+) +exit (\d+)", errors.__doc__ or ""))
    assert said.pop("AutopruneError") == "1"
    assert {name: int(code) for name, code in said.items()} == {name: getattr(errors, name).exit_code for name in said}
    assert len(said) > 8


def test_interrupted_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert failures.report(failures.Interrupted("go on"), debug=False) == 130
    assert "go on" in capsys.readouterr().err
