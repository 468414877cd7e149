"""Memory of processes, as Linux accounts for it."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "memory_of", "resident_mb"]


@dataclass(frozen=True)
class Memory:
    """Megabytes (10**6 bytes) of one process."""

    resident: float
    """All pages that it maps and that are in memory, shared ones counted in full."""
    private: float
    """What would be freed by its end: pages that nobody else maps (USS)."""
    proportional: float
    """Private pages and its share of the shared ones (PSS)."""


def resident_mb(pid: int | None = None) -> float:
    """Resident megabytes of a process, by default this one: cheap. Raises OSError where there is no such process."""
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory_of(pid: int) -> Memory:
    """Takes milliseconds: the kernel walks the process's pages. Raises OSError where there is no such process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    values = {name: 1.024e-3 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Memory(values["Rss"], values["Private_Clean"] + values["Private_Dirty"], values["Pss"])
