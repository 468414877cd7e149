"""Exit codes, messages, help, pipes and what starting the command costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoprune import api
from autoprune.cli.main import main
from autoprune.errors import (
    AutopruneError,
    ConfigError,
    Conflict,
    EvaluationError,
    ExportMismatch,
    NotFound,
    NothingFeasible,
    SearchAborted,
    StoreError,
)

COMMANDS = [
    "search",
    "resume",
    "prepare",
    "searches",
    "trials",
    "front",
    "history",
    "select",
    "export",
    "space",
    "report",
]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    return int(leaving.value.code or 0)


def fail(patch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise error

    patch.setattr(api, name, call)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (AutopruneError, 1),
        (EvaluationError, 1),
        (ConfigError, 2),
        (NotFound, 3),
        (Conflict, 3),
        (StoreError, 4),
        (SearchAborted, 4),
        (NothingFeasible, 5),
        (ExportMismatch, 6),
    ],
)
def test_errors_have_their_exit_code_message_and_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[AutopruneError], code: int
) -> None:
    fail(monkeypatch, "front", kind("it went [bold]wrong[/bold].", "Do this instead."))
    assert run("front", "demo", "--format", "json") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: it went [bold]wrong[/bold].\nhint: Do this instead.\n"


def test_an_error_without_a_hint_has_no_hint_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, "searches", NotFound("no store."))
    assert run("searches") == 3
    assert capsys.readouterr().err == "error: no store.\n"


def test_a_defect_leaves_a_log_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path))
    fail(monkeypatch, "front", ZeroDivisionError("division by zero\nmore"))
    assert run("front", "demo") == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero\n" in err
    assert "Traceback" not in err
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in err
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_a_defect_without_a_writable_cache_logs_to_the_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fail(monkeypatch, "front", RuntimeError())
    assert run("front", "demo") == 70
    assert "RuntimeError: no message" in capsys.readouterr().err
    assert list(tmp_path.glob("error-*.log"))


@pytest.mark.parametrize("arguments", [("--debug", "front", "demo"), ("front", "demo", "--debug")])
def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path))
    fail(monkeypatch, "front", ZeroDivisionError("division by zero"))
    assert run(*arguments) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_interrupted_commands_say_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fail(monkeypatch, "search", KeyboardInterrupt())
    fail(monkeypatch, "resume", KeyboardInterrupt())
    launch = tmp_path / "launch.yaml"
    launch.write_text("name: from-file\nspace: x.yaml\n", encoding="utf-8")
    assert run("resume", "demo", "--store", "sqlite:///x.db") == 130
    assert "resume with: autoprune resume demo --store sqlite:///x.db\n" in capsys.readouterr().err
    assert run("search", str(launch)) == 130
    assert "resume with: autoprune resume from-file\n" in capsys.readouterr().err
    assert run("search", str(launch), "--set", "name=other") == 130
    assert "resume with: autoprune resume other\n" in capsys.readouterr().err
    assert run("search", str(tmp_path / "absent.yaml")) == 130
    assert "resume with: autoprune resume NAME\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("fronts",), ("front",), ("front", "x", "--nonsense"), ("front", "x", "--format", "xml"), ("export", "x", "-1")],
    ids=str,
)
def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: autoprune" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_of_its_own_command(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run(command, "--help") == 0
    out = capsys.readouterr().out
    _, _, examples = out.partition("Examples:\n")
    assert f"autoprune {command}" in examples
    lines = [line for line in examples.splitlines() if line.strip()]
    assert all(line.strip().startswith(("autoprune", "python -c")) for line in lines)  # one a line, unwrapped


def test_help_lists_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert "...\n" not in out.partition("Commands:")[2].partition("Examples:")[0]  # summaries fit their line
    assert "  5    nothing meets the budgets" in out


def subprocess_run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **options)


def test_starting_imports_nothing_heavy() -> None:
    heavy = ["torch", "ray", "sqlalchemy", "pydantic", "optuna", "matplotlib", "plotly", "numpy", "rich"]
    done = subprocess_run(f"import sys, autoprune.cli.main; print([n for n in {heavy} if n in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr
    done = subprocess_run(
        "import sys, autoprune.cli.main as m\ntry: m.main(['--help'])\n"
        f"finally: print([n for n in {heavy} if n in sys.modules])"
    )
    assert done.stdout.strip().endswith("[]"), done.stderr


def test_a_closed_pipe_is_quiet() -> None:
    code = (
        "import os, sys\nfrom autoprune import api\nfrom autoprune.types import *\n"
        "many = [Trial(n, Candidate({'a': 4}), TrialState.COMPLETE, {'top1': 0.5}) for n in range(20000)]\n"
        "api.trials = lambda *a, **k: many\n"
        "from autoprune.cli.main import main\nmain(['trials', 'x', '--format', 'csv'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert err == ""
    assert process.wait(timeout=60) == 141


def test_module_is_the_command() -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "autoprune", "--help"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: autoprune [OPTIONS] COMMAND")
