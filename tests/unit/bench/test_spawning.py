"""A script without a guard must be told, not left waiting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from autoprune.bench.spawning import require_guarded_main
from autoprune.errors import AutopruneError
{guard}
    try:
        require_guarded_main()
        print("fine")
    except AutopruneError as error:
        print(error)
"""
NESTED = """
import multiprocessing
from autoprune.bench.spawning import require_guarded_main

def nothing():
    pass

require_guarded_main()
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=nothing)
    child.start()
    child.join()
    print("child ended with", child.exitcode)
"""


def output(*arguments: str | Path) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    ("guard", "expected"), [("if True:", "would start them again"), ('if __name__ == "__main__":', "fine")]
)
def test_a_script_needs_a_guard(tmp_path: Path, guard: str, expected: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(guard=guard))
    assert expected in output(path)[0]


def test_code_on_the_command_line_is_not_imported_again() -> None:
    assert output("-c", SCRIPT.format(guard="if True:"))[0] == "fine"


def test_a_call_outside_the_guard_fails_in_the_child(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(NESTED)
    out, err = output(path)
    assert out == "child ended with 1"
    assert "Put the calls under: if __name__ == '__main__':" in err
