"""A folder for Ray's sockets and files that goes away with its driver, also when that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["scratch_folder"]

_PREFIX = "autoprune-ray-"
_LOCK = "driver.lock"
_LONGEST = 43
"""Ray appends up to 64 characters to its folder for Unix sockets, whose paths end at 107."""
_RANDOM = 8
"""Characters that ``mkdtemp`` appends."""


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A new folder for the length of the block; first, those of drivers that were killed are removed.

    A driver holds a lock on a file in its folder, which the kernel lets go when the process ends, however it ends.
    """
    parent = _parent()
    _remove_stale(parent)
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
    # Locked before it has its name: nobody finds it unlocked while its driver lives.
    descriptor = os.open(os.path.join(folder, f"new-{_LOCK}"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then the folder is never taken for stale
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(os.path.join(folder, f"new-{_LOCK}"), os.path.join(folder, _LOCK))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _parent() -> str:
    default = tempfile.gettempdir()
    return default if len(default) + 1 + len(_PREFIX) + _RANDOM <= _LONGEST else "/tmp"


def _remove_stale(parent: str) -> None:
    for lock in Path(parent).glob(f"{_PREFIX}*/{_LOCK}"):
        # OSError: its driver lives and holds the lock; it is somebody else's; it is gone already.
        with contextlib.suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
