"""What a trial may hold in memory, and what is said when it is too much.

Two guards: a watcher of the worker process's private pages, and the system's own limit on what may be allocated,
which also stops one great allocation between two looks, with an error that leaves the process alive.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["OUT_OF_MEMORY", "allocations_limited", "explained", "held_bytes", "is_memory_error", "too_much"]

OUT_OF_MEMORY = "out of memory"
"""How every reason begins that says so."""
_SIGNS = ("out of memory", "allocate memory", "running low on memory")


def held_bytes() -> float:
    """Private pages of this process that are in memory (mapped files and Ray's shared objects are left out); 0 where
    the system does not say: Linux does."""
    try:
        fields = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0.0
    return float((int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE"))


@contextmanager
def allocations_limited(most: float) -> Iterator[None]:
    """Let this process allocate until it would hold ``most`` bytes (RLIMIT_DATA, Linux): beyond, MemoryError.

    Nothing is limited where ``most`` is infinite, or the system has no such limit.
    """
    before = _limit(most)
    try:
        yield
    finally:
        if before is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, before)


def _limit(most: float) -> tuple[int, int] | None:
    """Set the limit; what it was, None if nothing was set."""
    allocated = None if math.isinf(most) else _allocated_bytes()
    if allocated is None:
        return None
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    # What is allocated and was never touched costs nothing: only growth is held against the limit.
    wanted = int(allocated + max(most - held_bytes(), 0))
    if before[1] != resource.RLIM_INFINITY:
        wanted = min(wanted, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, before[1]))
    return before


def _allocated_bytes() -> float | None:
    """Private writable memory that this process has asked for, as RLIMIT_DATA counts it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmData:")), None)


def is_memory_error(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: Python's, numpy's, torch's on processors and on GPUs.

    >>> is_memory_error(MemoryError()), is_memory_error(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    (True, True)
    """
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _SIGNS)


def too_much(held: float, most: float) -> str:
    """The reason of a trial that the watcher ended.

    >>> too_much(1.53e9, 1e9)
    'out of memory: the worker held 1.53 GB, limits.trial_memory_gb allows 1'
    """
    return f"{OUT_OF_MEMORY}: the worker held {held / 1e9:.3g} GB, limits.trial_memory_gb allows {most / 1e9:g}"


def explained(error: str, most: float) -> str:
    """The reason of a trial that could not allocate what it asked for.

    >>> explained("MemoryError: Unable to allocate 2 GiB", 1e9)
    'out of memory: MemoryError: Unable to allocate 2 GiB (limits.trial_memory_gb is 1)'
    """
    limit = "" if math.isinf(most) else f" (limits.trial_memory_gb is {most / 1e9:g})"
    return f"{OUT_OF_MEMORY}: {error}{limit}"
