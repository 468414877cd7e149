"""Before the first trial on a cluster: what its nodes have, what does not fit, and what must be sent along."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autoprune.errors import ConfigError
from autoprune.executors import ray_look

__all__ = ["check_versions", "package_to_ship", "probe"]

_SECONDS = 60.0
_NAMED = 3


def probe(needs: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """Address of each node that a trial fits -> what ``ray_look.look`` finds there.

    A node that has not answered after a minute, or leaves meanwhile, is left out: what it lacks is said when a worker
    is started there.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and _suits(node["Resources"], needs)]
    cloudpickle.register_pickle_by_value(ray_look)
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(ray_look.look)
        asked = {
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(): node
            for node in nodes
        }
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS) if asked else ([], [])
    finally:
        cloudpickle.unregister_pickle_by_value(ray_look)
    for task_ref in late:
        ray.cancel(task_ref, force=True)
    found = {}
    for answer in ready:
        try:
            found[f"{asked[answer]['NodeManagerAddress']}/{asked[answer]['NodeID'][:8]}"] = ray.get(answer)
        except RayError:
            continue
    return found


def check_versions(found: Mapping[str, Mapping[str, str]]) -> None:
    """Raises ConfigError when nodes have no torch, or another version than this process; builds may differ (CPU, CUDA).

    Python and Ray are compared by Ray itself when it joins.
    """
    here = ray_look.look()["torch"]
    lacking = [node for node, each in found.items() if not each["torch"]]
    if lacking:
        raise ConfigError(
            f"torch is missing in the Python of Ray on {_listed(lacking)}: trials cannot run there.",
            "Start Ray there from an environment with autoprune's dependencies: pip install autoprune, then ray start.",
        )
    other = [f"{node} has {each['torch']}" for node, each in found.items() if _public(each["torch"]) != _public(here)]
    if other:
        raise ConfigError(
            f"torch differs between this process and the Ray cluster: here it is {here}, but {_listed(other)}.",
            f"Install the same version on all: pip install torch=={_public(here)}; or start the search on a node of "
            "the cluster (autoprune submit).",
        )


def package_to_ship(found: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
    """A runtime environment with this process's autoprune, where a node has another one or none; else None."""
    here = ray_look.look()
    if all(each["autoprune"] == here["autoprune"] for each in found.values()):
        return None
    return {"py_modules": [here["folder"]], "excludes": [f"**{os.sep}__pycache__{os.sep}"]}


def _suits(resources: Mapping[str, float], needs: Mapping[str, float]) -> bool:
    return all(resources.get(name, 0.0) >= amount for name, amount in needs.items())


def _public(version: str) -> str:
    return version.partition("+")[0]


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more
