"""What a server was started with."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

from autoprune.errors import ConfigError
from autoprune.service.tokens import Tokens

__all__ = ["Limits", "Settings", "is_loopback"]


@dataclass(frozen=True)
class Limits:
    """What one client may cost."""

    body_bytes: int = 512 * 1024
    body_seconds: float = 20.0
    """A body that takes longer is refused with 408."""
    bodies: int = 64
    """Bodies that are being read at once; beyond, the one that takes longest is refused with 408."""
    head_seconds: float = 10.0
    """A connection that has not sent the whole head of a request by then is closed."""
    waiting: int = 128
    """Connections without a request; beyond, the oldest one of the client that has most of them is closed."""
    stalled_seconds: float = 30.0
    """A client that takes less than 16 kB of its answer in that time is cut off."""
    connections: int = 512
    """Beyond, requests are answered with 503."""
    requests_per_second: float = 200.0
    burst: int = 1000
    launches_per_minute: float = 30.0
    """Requests that change something."""
    failures_per_minute: float = 20.0
    """Wrong tokens from one address."""
    streams: int = 64
    """Event streams at once, of all clients."""


@dataclass(frozen=True)
class Settings:
    """Raises ConfigError for a server that would be open to a network without tokens."""

    store: str
    host: str = "127.0.0.1"
    port: int = 8642
    data_root: Path = Path("data")
    output: Path = Path("results")
    """Where searches that are launched here leave their reports."""
    spaces: Path = Path("search_spaces")
    """Search space files that configurations may name."""
    tokens: Tokens = field(default_factory=Tokens)
    allow_code: bool = False
    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients reach this server, beyond its own."""
    parallel: int = 1
    """Searches that run at once; 0: none here, workers on other machines take them."""
    ray_address: str | None = None
    """The job server of a Ray cluster that runs them; None: processes of this machine do."""
    limits: Limits = field(default_factory=Limits)
    compress_here: bool = False
    """Compress what the API says for clients on this machine as well, which costs them and the server time."""

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.tokens:
            raise ConfigError(
                f"--host {self.host} can be reached from other machines: a token is required there.",
                "Pass --token-file FILE (made anew where there is none), or leave --host at 127.0.0.1.",
            )

    def knows_host(self, host: str) -> bool:
        """Whether a request's Host header (without port, in lower case) names this server.

        A page that was rebound to this address by DNS sends its own name. An address cannot be rebound, but a
        loopback server answers loopback addresses only.
        """
        if host in {name.lower() for name in self.allowed_hosts}:
            return True
        if is_loopback(host):
            return True
        if is_loopback(self.host):
            return False
        return host in (self.host.lower(), socket.gethostname().lower()) or _is_address(host)


def is_loopback(host: str) -> bool:
    """
    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "[::1]", "0.0.0.0", "example.org")]
    [True, True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
