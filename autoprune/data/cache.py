"""Where derived files are kept, and writing them so that no reader ever sees half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoprune.errors import ConfigError

__all__ = ["cache_dir", "replacing"]


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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, moved onto it at the end of the block, or removed when the block fails.

    Two processes may write the same path at once: each replaces the whole file, and readers see one or the other.
    Raises ConfigError when the disk is full or read-only.
    """
    try:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free some space, or set the environment variable AUTOPRUNE_HOME to a folder with room.",
        ) from None
