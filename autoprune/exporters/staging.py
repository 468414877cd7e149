"""Writing a folder so that nobody ever sees half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoprune.errors import ConfigError, Conflict, StoreError

__all__ = ["staged", "writable"]


def writable(folder: Path) -> None:
    """Raises Conflict when ``folder`` exists and is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} exists and is not empty.", "Choose another folder or empty this one.")


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, beside ``folder``, which it becomes in one rename when the block ends well.

    After an exception nothing is left. Raises Conflict when ``folder`` exists and is not an empty folder, ConfigError
    when nothing can be written there, StoreError when the disk refuses in the midst of it.
    """
    writable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}.", "Choose another folder.") from None
    try:
        with temporary as name:
            inside = Path(name) / "export"
            inside.mkdir()
            yield inside
            if folder.exists():
                folder.rmdir()
            os.replace(inside, folder)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Nothing is left of it. Free some space, then run the same command again.",
        ) from None
