"""Seconds from starting a command to its end, in a new process each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from autoprune.bench.repeats import seconds

__all__ = ["command_seconds"]


def command_seconds(*arguments: str, repeats: int = 5, environment: Mapping[str, str] | None = None) -> list[float]:
    """Wall seconds of ``autoprune ARGUMENTS``, after a first run that is not counted.

    Raises CalledProcessError when the command fails.
    """
    command = [sys.executable, "-m", "autoprune", *arguments]
    settings = {**os.environ, **(environment or {})}
    return seconds(lambda: subprocess.run(command, capture_output=True, check=True, env=settings), repeats)
