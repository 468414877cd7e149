"""Where derived files are kept."""

from __future__ import annotations

import os
from pathlib import Path

from autoprune.errors import ConfigError

__all__ = ["cache_dir"]


def cache_dir(*parts: str) -> Path:
    """``$AUTOPRUNE_HOME`` or ``~/.cache/autoprune``, joined with ``parts``; created if need be.

    Raises ConfigError when that fails.
    """
    home = os.environ.get("AUTOPRUNE_HOME")
    path = (Path(home).expanduser() if home else Path.home() / ".cache" / "autoprune").joinpath(*parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {path} cannot be created: {error.strerror or error}.",
            "Set the environment variable AUTOPRUNE_HOME to a folder that can be written.",
        ) from None
    return path
