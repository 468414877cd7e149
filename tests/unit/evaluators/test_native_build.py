"""The compiled library: made once, shared by racing workers, and missed by nobody where it cannot be made."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autoprune.evaluators.native.build import load_library, why_unavailable

needs_compiler = pytest.mark.skipif(load_library() is None, reason=f"no native kernels: {why_unavailable()}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path))
    return tmp_path


def test_without_a_compiler_there_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(home))
    assert load_library() is None
    assert "no C++ compiler" in (why_unavailable() or "")


def test_the_users_compiler_is_the_one_that_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert load_library() is None
    assert "no-such-compiler" in (why_unavailable() or "")


def test_a_failing_compiler_is_quoted_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = home / "compiler"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "error: no such flag" >&2; exit 1; }\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert load_library() is None
    assert "error: no such flag" in (why_unavailable() or "")
    assert not [*(home / "native").iterdir()]


def test_what_cannot_be_loaded_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = home / "compiler"
    compiler.write_text('#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && echo rubbish > "$2"; shift; done\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert load_library() is None
    assert "cannot be loaded" in (why_unavailable() or "")


def test_a_cache_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("AUTOPRUNE_HOME", str(home / "file"))
    assert load_library() is None
    assert why_unavailable()


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_NATIVE", "0")
    assert load_library() is None
    assert "AUTOPRUNE_NATIVE" in (why_unavailable() or "")


@needs_compiler
def test_racing_workers_all_get_it(home: Path) -> None:
    code = "from autoprune.evaluators.native.build import load_library; print(load_library().lanes())"

    def worker(_: int) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
        return done.stdout.strip()

    with ThreadPoolExecutor(3) as pool:
        assert {*pool.map(worker, range(3))} == {"8"}
    assert len([*(home / "native").iterdir()]) == 1
