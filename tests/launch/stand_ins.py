"""Stand-ins for programs of a cluster: ``python stand_ins.py NAME ARGUMENTS`` is ``NAME``, on this machine.

Every node of the "cluster" has a loopback address of its own. What really differs between machines of a cluster and
these, ports that two nodes would both open, is added to ``ray start``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from autoprune.testing.ray_nodes import RayNode

NODES = ("node1", "node2", "node3")
_APART = ["--include-log-monitor=false", "--object-store-memory=80000000", "--disable-usage-stats"]
_APART += [f"--{name}-port=0" for name in ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent")]
_APART += ["--metrics-export-port=0"]


def ray(arguments: list[str], ip: str = "", head: bool = False) -> subprocess.Popen[bytes]:
    """``ray ARGUMENTS`` as a node of its own session."""
    if arguments[0] == "start":
        arguments = [*arguments, *_APART]
        if ip and not any(text.startswith("--node-ip-address") for text in arguments):
            arguments.append(f"--node-ip-address={ip}")
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *arguments]
    return subprocess.Popen(command, start_new_session=True)


def address(node: str) -> str:
    return f"127.0.0.{NODES.index(node) + 2}"


def srun(arguments: list[str]) -> int:
    options = dict(text.lstrip("-").partition("=")[::2] for text in arguments if text.startswith("--"))
    command = arguments[next(place for place, text in enumerate(arguments) if not text.startswith("--")) :]
    options = {key: value for key, value in options.items() if f"--{key}" not in command}
    nodes = [options["nodelist"]] if "nodelist" in options else [n for n in NODES if n != options["exclude"]]
    assert len(nodes) == int(options["nodes"]) == int(options["ntasks"])
    if command[0] == "hostname":
        print(address(nodes[0]))
        return 0
    assert command[:2] == ["ray", "start"]
    started = [RayNode(address(node), ray(command[1:], address(node)), Path()) for node in nodes]

    def end(number: int, frame: object) -> None:
        for node in started:
            node.kill()

    signal.signal(signal.SIGTERM, end)
    for node in started:
        node.process.wait()
    return 0


def scontrol(arguments: list[str]) -> int:
    if arguments[:2] == ["show", "hostnames"]:
        print("\n".join(NODES))
    else:
        with open(os.environ["SCONTROL_LOG"], "a") as log:
            log.write(" ".join(arguments) + "\n")
    return 0


def install(folder: Path) -> Path:
    """Programs of these names in ``folder``, to be put in front of the path."""
    folder.mkdir()
    lines = {
        "srun": f"{__file__} srun",
        "scontrol": f"{__file__} scontrol",
        "ray": '-c "from ray.scripts.scripts import main; main()"',
        "autoprune": "-m autoprune",
        "python": "",
    }
    for name, line in lines.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {line} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


if __name__ == "__main__":
    sys.exit({"srun": srun, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:]))
