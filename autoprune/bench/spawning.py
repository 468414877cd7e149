"""What starting processes asks of the script that the user runs."""

from __future__ import annotations

import ast
import multiprocessing
import sys
from pathlib import Path
from types import ModuleType

from autoprune.errors import ConfigError

__all__ = ["require_guarded_main"]


def require_guarded_main() -> None:
    """Raises ConfigError where a new process would run the user's script again from its first line.

    A spawned process imports the script that started it. Without ``if __name__ == "__main__":`` it would start the
    measurement once more, and so on: everybody waits for everybody.
    """
    path = _script(sys.modules.get("__main__"))
    if _being_imported() or (path is not None and not _guarded(path)):
        raise ConfigError(
            f"{path or 'the script'} starts processes, each of which imports it and would start them again.",
            "Put the calls under: if __name__ == '__main__':",
        )


def _script(main: ModuleType | None) -> Path | None:
    """The file that a spawned process would import; None for notebooks, ``-c`` and packages run by ``-m``."""
    name = getattr(getattr(main, "__spec__", None), "name", "")
    file = getattr(main, "__file__", None)
    path = None if file is None else Path(file)
    if path is None or name.endswith("__main__") or path.stem in ("ipython", "ipykernel_launcher"):
        return None
    return path if path.is_file() else None


def _being_imported() -> bool:
    """This is such a process, still importing the script."""
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def _guarded(path: Path) -> bool:
    """Some statement at the top asks for ``__name__``; a file that is no Python text passes."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return True
    tests = [node.test for node in tree.body if isinstance(node, ast.If)]
    return any(isinstance(part, ast.Name) and part.id == "__name__" for test in tests for part in ast.walk(test))
