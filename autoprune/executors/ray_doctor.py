"""Joining or starting a cluster to look at it, for ``autoprune doctor``."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import ray
from pydantic import ValidationError
from ray import _raylet

from autoprune.config.executors import RayExecutorConfig
from autoprune.errors import ConfigError
from autoprune.executors.ray_cluster import connected

__all__ = ["Seen", "examine"]


@dataclass(frozen=True)
class Seen:
    """A cluster that could be joined."""

    nodes: int
    cpus: float
    gpus: float
    head: str
    """Its address."""
    loopback: bool
    """Only processes of this machine reach it."""
    token: bool
    """It asks for a token."""


def examine(address: str | None) -> Seen:
    """Join the cluster at ``address``, or start one here, and leave it. Raises ConfigError when that cannot be.

    Versions of Ray, Python and torch that differ from those here are refused.
    """
    try:
        config = RayExecutorConfig(address=address)
    except ValidationError as error:
        said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"--address {address!r}: {said}.", "Write auto, host:port or ray://host:port.") from None
    with connected(config):
        alive = [node for node in ray.nodes() if node["Alive"]]
        resources = ray.cluster_resources()
        hosts = {node["NodeManagerAddress"] for node in alive}
        head = ray.get_runtime_context().gcs_address
        return Seen(
            nodes=len(alive),
            cpus=resources.get("CPU", 0.0),
            gpus=resources.get("GPU", 0.0),
            head=head,
            loopback=all(_is_loopback(host) for host in {*hosts, head.rpartition(":")[0]}),
            token=_asks_for_token(),
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _asks_for_token() -> bool:
    """The cluster would not have let this process in, had their modes differed. Older versions of Ray know none."""
    modes = getattr(_raylet, "AuthenticationMode", None)
    mode = getattr(_raylet, "get_authentication_mode", None)
    return modes is not None and mode is not None and mode() != modes.DISABLED
