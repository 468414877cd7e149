"""What a search talks to: its store, and Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from autoprune.api.doctor_machine import file_system
from autoprune.api.doctor_packages import version_of
from autoprune.api.findings import Finding
from autoprune.api.stores import open_at, store_url
from autoprune.errors import AutopruneError, NotFound

__all__ = ["ray_health", "store_health"]

_NETWORK = ("nfs", "cifs", "smb", "sshfs", "9p", "lustre", "beegfs", "ceph", "gpfs", "glusterfs", "afs")
_QUICK_BYTES = 200 * 2**20


def store_health(store: str | None) -> Iterator[Finding]:
    """Whether the store can be read, who drives its searches, and what a killed driver left."""
    from autoprune.store import tables, upkeep, urls

    url = store_url(store)
    path = None if urls.is_server(url) else urls.sqlite_path(url)
    if path is not None:
        yield from _place(path)
    try:
        opened = open_at(url, read_only=True)
    except NotFound:
        yield Finding("store", "ok", f"none yet at {urls.shown(url)}: the first search makes it")
        return
    with opened:
        version, size = upkeep.schema_of(opened), upkeep.size_of(opened)
        records = opened.searches()
        old = version < tables.SCHEMA_VERSION
        told = f"{opened.where}: {len(records)} searches, {size / 1e6:.1f} MB, schema version {version}"
        expected = f"version {tables.SCHEMA_VERSION}" if old else ""
        yield Finding(
            "store", "warning" if old else "ok", told, expected, "Run 'autoprune store migrate'." if old else ""
        )
        if size <= _QUICK_BYTES and path is not None:
            wrong = upkeep.quick_check(opened)
            hint = "Run 'autoprune store check'; restore a copy." if wrong else ""
            yield Finding("store file", "problem" if wrong else "ok", wrong or "sound", "sound" if wrong else "", hint)
        held = set(upkeep.held(opened))
        left = [
            f"{record.name} ({record.trial_counts['running']})"
            for record in records
            if record.name not in held and record.trial_counts.get("running")
        ]
        yield Finding("drivers", "ok", f"{', '.join(sorted(held))} is being run" if held else "no search is being run")
        if left:
            text = f"cut off, with trials that will run again on resume: {', '.join(left)}"
            yield Finding("stale trials", "warning", text, "", "Go on with 'autoprune resume NAME', or leave them.")


def _place(path: Path) -> Iterator[Finding]:
    folder = next(each for each in (path.absolute(), *path.absolute().parents) if each.is_dir())
    kind = file_system(folder)
    if kind.removeprefix("fuse.").startswith(_NETWORK):
        yield Finding(
            "store place",
            "warning",
            f"{folder} is on a network file system ({kind}), whose locks SQLite cannot trust",
            "a local disk",
            "Use one machine at a time, or PostgreSQL: --store postgresql://USER@HOST/DATABASE",
        )


# --- ray -------------------------------------------------------------------------------------------------------------


def ray_health(address: str | None, *, start: bool) -> Iterator[Finding]:
    """Ray's version; with an address or ``start`` also whether a cluster can be joined or started."""
    version = version_of("ray")
    if version is None:
        return  # said with the packages
    if address is None and not start:
        yield Finding("ray cluster", "ok", "not tried: --ray starts one here, --address ADDRESS joins one")
        return
    from autoprune.executors.ray_doctor import examine

    try:
        seen = examine(address)
    except AutopruneError as error:
        yield Finding("ray cluster", "problem", error.message, "a cluster that answers", error.hint)
        return
    where = f"at {address}" if address else "started here"
    nodes = f"{seen.nodes} node" + ("" if seen.nodes == 1 else "s")
    told = f"{where}: {nodes}, {seen.cpus:g} cores, {seen.gpus:g} GPUs; Ray {version}"
    yield Finding("ray cluster", "ok", told)
    if address is None:
        return
    if seen.token or seen.loopback:
        yield Finding(
            "ray token", "ok", "asked for" if seen.token else "none, and the cluster is on this machine alone"
        )
    else:
        yield Finding(
            "ray token",
            "warning",
            f"none: whoever reaches {seen.head} can run code on the cluster",
            "token authentication",
            "Set RAY_AUTH_MODE=token and one RAY_AUTH_TOKEN on all nodes before 'ray start', or close its ports.",
        )
