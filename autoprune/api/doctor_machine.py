"""Processors, memory and disks, as this process may use them: a container is often given less than the machine has."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from autoprune.api.findings import Finding

__all__ = ["cache", "file_system", "processor", "readable", "memory"]

_CGROUP = Path("/sys/fs/cgroup")
_GIB = 2**30
_LITTLE_MEMORY = 2 * _GIB
_RAY_OBJECTS = _GIB
_LITTLE_DISK = 2 * _GIB


def readable(count: float) -> str:
    """Bytes as people read them.

    >>> readable(3.2e9), readable(5e5)
    ('3.0 GiB', '0.0 GiB')
    """
    return f"{count / _GIB:.1f} GiB"


# --- processor -------------------------------------------------------------------------------------------------------


def processor() -> Iterator[Finding]:
    """Cores that may be used, and what they can."""
    seen = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else seen
    share = _cpu_share()
    told = f"{usable} of {seen} usable" + (f", of which this container may use {share:g}" if share else "")
    little = share is not None and share < 1
    hint = "Trials run on shares of a core: raise the container's limit." if little else ""
    yield Finding("cores", "warning" if little else "ok", told, hint=hint)
    fields = _processor_fields()
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    has = [label for label, sign in _ABILITIES.items() if sign in flags]
    x86 = platform.machine() in ("x86_64", "AMD64")
    missing = x86 and bool(flags) and "avx2" not in flags
    text = f"{name}: {', '.join(has) or 'no vector extension that is used here'}"
    hint = "Trials run, slower: without AVX2 there are no kernels of our own." if missing else ""
    yield Finding("processor", "warning" if missing else "ok", text, "AVX2" if missing else "", hint)
    native = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    yield Finding("bfloat16", "ok", "multiplied natively" if native else "not native: float32 is used")


_ABILITIES = {
    "AVX2": "avx2",
    "FMA": "fma",
    "AVX-512": "avx512f",
    "AVX-512 bfloat16": "avx512_bf16",
    "AMX bfloat16": "amx_bf16",
    "NEON": "asimd",
}


def _processor_fields() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    first = text.partition("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _cpu_share() -> float | None:
    """Cores that the cgroup grants, by its version 2 or 1; None: no limit."""
    for folder in _cgroup_folders(""):
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0].isdecimal():
            return int(words[0]) / int(words[1])
    for folder in _cgroup_folders("cpu"):
        quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if quota and period and quota[0].isdecimal():
            return int(quota[0]) / int(period[0])
    return None


# --- memory ----------------------------------------------------------------------------------------------------------


def memory() -> Iterator[Finding]:
    """Memory of the machine and of the container, and what Ray keeps its objects in."""
    fields = {}
    for line in _text("/proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        fields[key] = int(value.split()[0]) * 1024
    total, free = fields.get("MemTotal", 0), fields.get("MemAvailable", 0)
    limit = _memory_limit()
    if not total:
        yield Finding("memory", "ok", "the system does not say how much there is")
    else:
        most = min(total, limit or total)
        told = f"{readable(total)}, {readable(free)} free" + (
            f"; this container may use {readable(limit)}" if limit else ""
        )
        little = min(free, most) < _LITTLE_MEMORY
        hint = "Run fewer trials at once (executor.max_parallel), or free some." if little else ""
        expected = f"{readable(_LITTLE_MEMORY)} free" if little else ""
        yield Finding("memory", "warning" if little else "ok", told, expected, hint)
    try:
        shared = shutil.disk_usage("/dev/shm")
    except OSError:
        return
    small = shared.total < _RAY_OBJECTS
    told = f"/dev/shm: {readable(shared.total)}, {readable(shared.free)} free"
    hint = "Give the container more (docker run --shm-size=2g): Ray uses slower files in /tmp else." if small else ""
    yield Finding("shared memory", "warning" if small else "ok", told, readable(_RAY_OBJECTS) if small else "", hint)


def _memory_limit() -> int | None:
    names = (("", "memory.max"), ("memory", "memory.limit_in_bytes"))
    for controller, name in names:
        for folder in _cgroup_folders(controller):
            words = _words(folder / name)
            if words and words[0].isdecimal() and int(words[0]) < 2**60:
                return int(words[0])
    return None


def _cgroup_folders(controller: str) -> list[Path]:
    """Where limits of this process may stand: its own group, as the container sees it, and the root."""
    own = ""
    for line in _text("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names == controller or (controller and controller in names.split(",")):
            own = path.lstrip("/")
    root = _CGROUP / controller if controller else _CGROUP
    return [root / own, root]


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _words(path: Path) -> list[str]:
    return _text(path).split()


# --- disks -----------------------------------------------------------------------------------------------------------


def cache() -> Iterator[Finding]:
    """The folder of base networks, images and compiled kernels."""
    from autoprune.data.cache import cache_dir

    folder = cache_dir()  # raises ConfigError, which says what to do
    if not os.access(folder, os.W_OK):
        hint = "Set the environment variable AUTOPRUNE_HOME to a folder that can be written."
        yield Finding("cache", "problem", f"{folder} cannot be written", "a folder that can be written", hint)
        return
    counts = {name: sum(1 for _ in (folder / kind).glob("[!.]*")) for name, kind in _KINDS.items()}
    found = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "empty"
    yield Finding("cache", "ok", f"{folder}: {found}")
    free = shutil.disk_usage(folder).free
    little = free < _LITTLE_DISK
    hint = "Free some, or set AUTOPRUNE_HOME to a larger disk." if little else ""
    expected = readable(_LITTLE_DISK) if little else ""
    yield Finding("disk", "warning" if little else "ok", f"{readable(free)} free for the cache", expected, hint)


_KINDS = {"base networks": "base", "decoded data sets": "images", "hypernetworks": "hypernet"}


def file_system(path: Path) -> str:
    """The type of the file system that a path lies on, such as ``ext4`` or ``nfs4``; empty where it is not known."""
    wanted, best = str(path.resolve()), ("", "")
    for line in _text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split()[4].replace("\\040", " "), after.split()[0]
        inside = wanted == place or wanted.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best[0]):
            best = place, kind
    return best[1]
