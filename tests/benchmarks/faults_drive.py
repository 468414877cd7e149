"""One driver of the toy search, in a process of its own: ``python faults_drive.py SPEC`` (JSON).

``url``, ``folder`` (its evaluations' log), ``executor`` (as in a launch file), ``trial_seconds``, ``assets``,
``build`` (``faulty`` or ``broken``), and what ``open_toy`` takes. Exit codes are those of the command line.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

from faults_toy import FaultyEvaluator, broken_build, open_toy
from pydantic import TypeAdapter

from autoprune.cli.signals import ended_like_ctrl_c
from autoprune.config.executors import ExecutorConfig, SerialExecutorConfig
from autoprune.errors import AutopruneError
from autoprune.executors import SerialExecutor
from autoprune.store import open_store

BUILDS = {"faulty": FaultyEvaluator, "broken": broken_build}


def drive(spec: Mapping[str, Any]) -> dict[str, Any]:
    began = time.time()
    config: Any = TypeAdapter(ExecutorConfig).validate_python(spec.get("executor", {"kind": "serial"}))
    assets = {"folder": spec["folder"], **spec.get("assets", {})}
    build = BUILDS[spec.get("build", "faulty")]
    seconds, memory = spec.get("trial_seconds", 60.0), spec.get("trial_memory", math.inf)
    with open_store(spec["url"]) as store:
        session = open_toy(store, trial_seconds=seconds, **spec.get("session", {}))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with session:
            if isinstance(config, SerialExecutorConfig):
                SerialExecutor(lambda: build(assets), seconds, memory).run(session)
            else:
                from autoprune.executors.ray_tune import RayTuneExecutor

                start = spec.get("start_seconds", 60.0)
                RayTuneExecutor(config, assets, build, seconds, trial_memory=memory, start_seconds=start).run(session)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "began": began,
            "seconds": time.time() - began,
            "most_mb": after / 1024,
            "before_mb": before / 1024,
            "stop_reason": session.stop_reason,
        }


def main() -> None:
    try:
        with ended_like_ctrl_c():
            sys.stdout.write(json.dumps(drive(json.loads(sys.argv[1]))) + "\n")
    except KeyboardInterrupt:
        sys.exit(130)
    except AutopruneError as error:
        sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
