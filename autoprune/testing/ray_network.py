"""Network namespaces behind a bridge: machines of their own, as far as the network goes. Linux, root, ``ip``."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field

from autoprune.errors import AutopruneError

__all__ = ["Bridge", "without_namespaces"]


def without_namespaces() -> str | None:
    """Why there can be no network namespaces here; None where there can."""
    if os.name != "posix" or shutil.which("ip") is None:
        return "the command ip (iproute2) is missing"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    name = f"ap{secrets.token_hex(4)}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        return "this system refuses network namespaces"
    _ip("netns", "delete", name)
    return None


@dataclass
class Bridge:
    """A private network 10.x.y.0/24: this machine is .1, namespaces are .2 and up."""

    name: str
    prefix: str
    namespaces: dict[str, str] = field(default_factory=dict)
    """Address -> name of its namespace."""

    @classmethod
    def create(cls) -> Bridge:
        for _ in range(20):  # another test may have the same numbers
            first, second = 64 + secrets.randbelow(192), secrets.randbelow(256)
            bridge = cls(f"ap{secrets.token_hex(4)}", f"10.{first}.{second}")
            if f" {bridge.prefix}." not in _ip("-o", "addr"):
                break
        _ip("link", "add", bridge.name, "type", "bridge")
        _ip("addr", "add", f"{bridge.prefix}.1/24", "dev", bridge.name)
        _ip("link", "set", bridge.name, "up")
        return bridge

    def ip(self, number: int) -> str:
        return f"{self.prefix}.{number + 1}"

    def attach(self, ip: str) -> list[str]:
        """Make a namespace with this address; the words that run a command in it."""
        outside = self._link(ip)
        namespace = f"{outside}ns"
        _ip("netns", "add", namespace)
        self.namespaces[ip] = namespace
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", outside, "master", self.name, "up")
        inside = ("-n", namespace)
        _ip(*inside, "addr", "add", f"{ip}/24", "dev", "eth0")
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "set", "eth0", "up")
        return ["ip", "netns", "exec", namespace]

    def link(self, ip: str, *, up: bool) -> None:
        """Plug the namespace's cable in, or pull it."""
        _ip("link", "set", self._link(ip), "up" if up else "down")

    def remove(self) -> None:
        links = [self._link(ip) for ip in self.namespaces]
        removals = [("netns", "delete", name) for name in self.namespaces.values()]
        for words in [*removals, *(("link", "delete", name) for name in [*links, self.name])]:
            with contextlib.suppress(AutopruneError):  # a link goes with its namespace, sooner or later
                _ip(*words)

    def _link(self, ip: str) -> str:
        """The bridge's end of a namespace's cable."""
        return f"{self.name}{ip.rpartition('.')[2]}"


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise AutopruneError(f"ip {' '.join(words)} failed: {done.stderr.strip()}", "Run as root, on Linux.")
    return done.stdout
