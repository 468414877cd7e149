"""A Ray cluster of several nodes on this machine, to kill, freeze and cut off: real processes of ``ray start``.

Each node is a process group of its own with a loopback address of its own, or, with ``network=True``, a network
namespace behind a bridge, so that its link can be cut. Nothing of anybody else's Ray is touched.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autoprune.testing.ray_network import Bridge, without_namespaces

__all__ = ["RayCluster", "RayNode", "ray_nodes", "without_namespaces"]

_STORE_BYTES = 75 * 2**20
_START_SECONDS = 120.0


@dataclass
class RayNode:
    """One node: the process of ``ray start --block`` and all that it began, which share its session id."""

    ip: str
    process: subprocess.Popen[bytes]
    log: Path
    bridge: Bridge | None = None
    """The network of a node in a namespace; None on loopback and for the head."""

    def pids(self, kind: str = "") -> list[int]:
        """Living processes: all, or those of one kind: ``raylet``, ``gcs_server``, ``worker``."""
        return [pid for pid in _of_session(self.process.pid) if kind in ("", _kind(pid))]

    @property
    def alive(self) -> bool:
        return bool(self.pids("raylet"))

    def kill(self, kind: str = "") -> None:
        """SIGKILL, as a power cut would: the whole node, or its processes of one kind."""
        self.signal(signal.SIGKILL, kind)

    def freeze(self) -> None:
        """SIGSTOP everything: the node is there but says nothing."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def cut(self) -> None:
        """Take the node's network away; its processes live on."""
        self._network().link(self.ip, up=False)

    def restore(self) -> None:
        self._network().link(self.ip, up=True)

    def signal(self, number: int, kind: str = "") -> None:
        for pid in self.pids(kind):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _network(self) -> Bridge:
        if self.bridge is None:
            raise RuntimeError("this node has no link to cut: only workers of ray_nodes(network=True) have.")
        return self.bridge


@dataclass
class RayCluster:
    """A head and its workers. ``nodes[0]`` is the head."""

    folder: Path
    token: str
    bridge: Bridge | None
    environment: Mapping[str, str | None]
    system_config: Mapping[str, object]
    dashboard_port: int | None
    client_port: int | None
    nodes: list[RayNode] = field(default_factory=list)
    address: str = ""
    """``host:port`` of the head, for ``executor.address``."""

    @property
    def head(self) -> RayNode:
        return self.nodes[0]

    @property
    def workers(self) -> list[RayNode]:
        return self.nodes[1:]

    @property
    def driver_environment(self) -> dict[str, str]:
        """What a driver's environment needs to be let in."""
        return {**_auth(self.token), "RAY_ADDRESS": self.address}

    def add(
        self,
        cpus: float = 1,
        gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        environment: Mapping[str, str | None] | None = None,
    ) -> RayNode:
        """Start a node (the first is the head) and wait until it has joined: three to five seconds of a core."""
        is_head = not self.nodes
        ip = self._next_ip()
        command = [*self._ray(), "start", "--block", f"--node-ip-address={ip}", *self._common()]
        command += [f"--num-cpus={cpus:g}", f"--num-gpus={gpus:g}", f"--resources={json.dumps(dict(resources or {}))}"]
        command += self._head_options() if is_head else [f"--address={self.address}"]
        bridge = None if is_head else self.bridge
        if bridge is not None:
            command = [*bridge.attach(ip), *command]
        log = self.folder / f"node{len(self.nodes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=self._environment(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        node = RayNode(ip, process, log, bridge)
        self.nodes.append(node)
        _wait_until_started(node)
        if is_head:
            self.address = _read_soon(self.folder / "ray" / "ray_current_cluster")
        return node

    def alive(self) -> list[str]:
        """Addresses of the nodes that the head takes for alive."""
        from ray._raylet import Config, GcsClient  # type: ignore[attr-defined]

        Config.initialize("")  # reads the environment again, which may say since that a token is to be sent
        infos = GcsClient(address=self.address).get_all_node_info(timeout=10)
        return [info.node_manager_address for info in infos.values() if info.state == 0]

    def wait_for(self, count: int, seconds: float = 60.0) -> float:
        """Wait until the head counts so many nodes alive; the seconds that took. Raises TimeoutError."""
        began = time.monotonic()
        while len(self.alive()) != count:
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{len(self.alive())} nodes are alive after {seconds:g} s, not {count}.")
            time.sleep(0.2)
        return time.monotonic() - began

    def stop(self) -> None:
        """Kill all nodes and remove their files and networks."""
        for node in reversed(self.nodes):
            node.kill()
            node.process.wait()
        if self.bridge is not None:
            self.bridge.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what ray start is told --------------------------------------------------------------------------------------

    def _ray(self) -> list[str]:
        return [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]

    def _common(self) -> list[str]:
        ports = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
        return [
            f"--temp-dir={self.folder / 'ray'}",
            f"--object-store-memory={_STORE_BYTES}",
            "--include-log-monitor=false",
            "--disable-usage-stats",
            *(f"--{name}-port=0" for name in ports),
        ]

    def _head_options(self) -> list[str]:
        # Workers started ahead would cost a second of a core each.
        config = {"enable_worker_prestart": False, "prestart_worker_first_driver": False, **self.system_config}
        shown = self.dashboard_port is not None
        options = ["--head", "--port=0", f"--system-config={json.dumps(config)}"]
        options += [f"--include-dashboard={str(shown).lower()}", f"--dashboard-port={self.dashboard_port or 8265}"]
        # Where grpc is installed a head starts that server unasked, always on one port: two heads would collide.
        port = self.client_port or (_free_port() if importlib.util.find_spec("grpc") else None)
        return options if port is None else [*options, f"--ray-client-server-port={port}"]

    def _environment(self, own: Mapping[str, str | None]) -> dict[str, str]:
        values: dict[str, str | None] = {**os.environ, **_auth(self.token), **self.environment, **own}
        values.pop("RAY_ADDRESS", None)
        return {name: value for name, value in values.items() if value is not None}

    def _next_ip(self) -> str:
        # Ray replaces 127.0.0.1 by an address that other machines reach; it leaves its neighbours alone.
        return self.bridge.ip(len(self.nodes)) if self.bridge else f"127.0.0.{len(self.nodes) + 2}"


@contextmanager
def ray_nodes(
    workers: int = 2,
    *,
    head_cpus: float = 0,
    cpus: float = 1,
    gpus: float = 0,
    resources: Mapping[str, float] | None = None,
    environment: Mapping[str, str | None] | None = None,
    system_config: Mapping[str, object] | None = None,
    network: bool = False,
    dashboard_port: int | None = None,
    client_port: int | None = None,
) -> Iterator[RayCluster]:
    """A head and ``workers`` nodes of ``cpus``, ``gpus`` and ``resources`` each, stopped when the block ends.

    ``environment``: variables of the nodes; None takes one away (``{"PYTHONPATH": None}``). ``system_config``: Ray's
    own settings. ``network``: workers in network namespaces, whose links can be cut; see ``without_namespaces``.
    ``dashboard_port`` starts the job server too (needs ray[default]), ``client_port`` Ray Client's (ray[client]).

    A node costs three to five seconds of a core to start, 200 MB and next to nothing while it waits.
    """
    token = os.environ.get("RAY_AUTH_TOKEN") or _token_of_home() or secrets.token_hex(32)
    cluster = RayCluster(
        Path(tempfile.mkdtemp(prefix="apray-", dir="/tmp")),  # short: Ray's sockets lie below
        token,
        Bridge.create() if network else None,
        dict(environment or {}),
        dict(system_config or {}),
        dashboard_port,
        client_port,
    )
    before = {name: os.environ.get(name) for name in _auth(token)}
    os.environ.update(_auth(token))
    try:
        cluster.add(head_cpus)
        for _ in range(workers):
            cluster.add(cpus, gpus, resources)
        yield cluster
    finally:
        cluster.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _auth(token: str) -> dict[str, str]:
    # A head sends and asks for a token as soon as there is one; a worker node only when told so (Ray 2.60).
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def _token_of_home() -> str | None:
    """The token that drivers of this user send, so that they need no environment."""
    with contextlib.suppress(OSError):
        return (Path.home() / ".ray" / "auth_token").read_text().strip() or None
    return None


def _wait_until_started(node: RayNode) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while b"Ray runtime started" not in node.log.read_bytes():
        if node.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a Ray node did not start:\n{node.log.read_text()[-2000:]}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _read_soon(path: Path) -> str:
    """Ray writes it after it has said that it runs."""
    deadline = time.monotonic() + _START_SECONDS
    while not (path.is_file() and path.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text().strip()


def _of_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return sorted(found)


def _kind(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "gone"
    program = command.split(" ")[0]
    if program.endswith(("/raylet", "/gcs_server")):
        return program.rpartition("/")[2]
    is_agent = program.startswith(("ray::DashboardAgent", "ray::RuntimeEnvAgent"))
    is_worker = program.startswith("ray::") or "default_worker.py" in command
    return "worker" if is_worker and not is_agent else "other"
