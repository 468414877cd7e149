"""What a trial is given on a Ray cluster, and how many trials fit its nodes at once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ray

from autoprune.config.executors import RayExecutorConfig
from autoprune.errors import ConfigError

__all__ = ["Room", "Share", "fits", "slot_count", "trial_share"]

_LOOK_SECONDS = 5.0
"""Between two looks at the cluster's nodes, which may join and leave."""


@dataclass(frozen=True)
class Share:
    """What one trial is given, all of it on one node."""

    needs: Mapping[str, float]
    """Ray's name of a resource -> amount, more than 0."""
    keys: Mapping[str, str]
    """Ray's name -> the key of the configuration that says so."""
    hides_gpus: bool = False
    """A training that is to use none, whatever its node has."""
    requires_gpu: bool = False
    """Asked for by number: without one that torch sees, the trial is not run."""

    @property
    def cpus(self) -> float:
        return self.needs["CPU"]


def trial_share(config: RayExecutorConfig, *, training: bool = False) -> Share:
    """What a trial is given on the cluster that is connected; ``training``: one that trains."""
    keys = {"CPU": "cpus_per_trial", "GPU": "gpus_per_trial"}
    cpus, gpus, custom, at = (
        config.cpus_per_trial,
        config.gpus_per_trial,
        config.resources_per_trial,
        "resources_per_trial",
    )
    given = config.training
    asked = gpus > 0
    if training:
        keys["GPU"], asked = "training.gpus", given.gpus != "auto" and given.gpus > 0
        gpus = min(ray.cluster_resources().get("GPU", 0.0), 1.0) if given.gpus == "auto" else given.gpus
        if given.cpus is not None:
            keys["CPU"], cpus = "training.cpus", given.cpus
        if given.resources is not None:
            at, custom = "training.resources", given.resources
    needs = {"CPU": cpus, "GPU": gpus, **custom}
    return Share(
        {name: amount for name, amount in needs.items() if amount > 0},
        {name: f"executor.{keys.get(name) or f'{at}.{name}'}" for name in needs},
        hides_gpus=training and gpus == 0,
        requires_gpu=asked,
    )


def fits(needs: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> int:
    """How many trials fit, each on one node. ``nodes``: the resources of each.

    >>> fits({"CPU": 2}, [{"CPU": 1.5}, {"CPU": 1.5}, {"CPU": 5}])
    2
    """
    return sum(math.floor(min(node.get(name, 0.0) / amount for name, amount in needs.items()) + 1e-9) for node in nodes)


def slot_count(config: RayExecutorConfig, *, training: bool = False) -> int:
    """How many trials run at once: ``max_parallel``, and never more than the cluster's nodes hold now.

    Raises ConfigError when not even one trial fits any node.
    """
    share = trial_share(config, training=training)
    room = Room(config, share)()
    if room < 1:
        raise _does_not_fit(share, _living())
    return room


class Room:
    """How many slots may be open now; looked up again every few seconds."""

    def __init__(self, config: RayExecutorConfig, share: Share) -> None:
        self._most = math.inf if config.max_parallel == "auto" else config.max_parallel
        self._needs = share.needs
        self._count, self._look_at = 0, -math.inf

    def __call__(self) -> int:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._count = int(min(self._most, fits(self._needs, _living())))
        return self._count


def _living() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _does_not_fit(share: Share, nodes: list[Mapping[str, float]]) -> ConfigError:
    for name, amount in share.needs.items():
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if most < amount:
            what = f"{name}s" if name in ("CPU", "GPU") else f"of {name}"
            return ConfigError(
                f"{share.keys[name]} is {amount:g}, but the Ray cluster has no node with more than {most:g} {what}.",
                hint=f"Lower {share.keys[name]}, or join a cluster that has more (executor.address).",
            )
    together = " and ".join(f"{amount:g} {name}" for name, amount in share.needs.items())
    return ConfigError(
        f"a trial needs {together} on one node; the Ray cluster has all that, but not on one of its nodes.",
        hint=f"Lower {' or '.join(share.keys[name] for name in share.needs)}.",
    )
