"""Unpacking what a server sent, which may be anything."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from autoprune.errors import ConfigError, Conflict, ServiceError
from autoprune.files import SUMS, check_listed

__all__ = ["free", "unpacked"]

_MOST_FILES = 1000
_MOST_BYTES = 64 * 1024**3


def free(folder: Path) -> Path:
    """The folder, if it can be made. Raises Conflict when something is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} exists and is not an empty folder.", "Choose another, or remove it first.")
    return folder


def unpacked(file: IO[bytes], folder: Path) -> Path:
    """The files of a zip archive in a folder that is there whole or not at all.

    Raises ServiceError for an archive that is damaged, or whose names leave the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            too_much = len(members) > _MOST_FILES or sum(each.file_size for each in members) > _MOST_BYTES
            if too_much or not all(_inside(each.filename) for each in members):
                raise ServiceError("the archive that came is not one of an exported model.", "Check the URL.")
            archive.extractall(staging)
        check_listed(staging, [each.filename for each in members if each.filename != SUMS])
        if folder.exists():
            folder.rmdir()
        staging.chmod(0o755)
        staging.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, ConfigError) as error:
        raise ServiceError(f"the archive that came is damaged: {error}.", "Download it again.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _inside(name: str) -> bool:
    """
    >>> [_inside(name) for name in ("a/b.txt", "/a", "../a", "a/../../b", "C:\\\\a", "")]
    [True, False, False, False, False, False]
    """
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
