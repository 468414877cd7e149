"""The SLURM script for real, but for SLURM: stand-ins of srun and scontrol start its Ray nodes on this machine."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from autoprune import api
from autoprune.store import open_store
from autoprune.types import SearchState
from tests.launch.stand_ins import NODES, address, install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
TRIALS = 40


def sbatch(folder: Path, store: str) -> subprocess.Popen[bytes]:
    variables = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": str(random.randrange(10_000)),
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_CPUS_PER_TASK": "1",
        "AUTOPRUNE_STORE": store,
        "AUTOPRUNE_RAY_TMP": str(folder),
        "SCONTROL_LOG": str(folder / "scontrol.log"),
        "OMP_NUM_THREADS": "1",
    }
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        variables.pop(name, None)
    command = [str(ROOT / "launch/cluster/slurm.sh"), "launch/quickstart.yaml", "--set", f"limits.trials={TRIALS}"]
    command += ["--set", f"output={folder / 'out'}"]
    with (folder / "job.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log, start_new_session=True)


def measured(store: str) -> int:
    try:
        with open_store(store, read_only=True) as opened:
            return sum(1 for trial in opened.trials("digits-quickstart") if trial.state.finished)
    except Exception:  # noqa: BLE001 - there is no store or no search yet
        return 0


def used(store: str) -> set[str]:
    """Addresses of the nodes that finished a trial."""
    return {figures.node.partition("/")[0] for figures in api.nodes("digits-quickstart", store=store)}


def test_a_search_that_is_cut_off_is_queued_again_and_goes_on() -> None:
    folder = Path("/tmp") / f"aps{os.getpid()}"  # short: Ray's sockets lie below
    folder.mkdir()
    install(folder / "bin")
    store = f"sqlite:///{folder / 'a.db'}"
    try:
        first = sbatch(folder, store)
        deadline = time.monotonic() + 400
        while measured(store) < 3 or len(used(store)) < 2:
            assert measured(store) < TRIALS, "one node has done it all"
            assert first.poll() is None, (folder / "job.log").read_text()
            assert time.monotonic() < deadline, (folder / "job.log").read_text()
            time.sleep(0.2)
        first.send_signal(signal.SIGUSR1)
        assert first.wait(timeout=120) == 130, (folder / "job.log").read_text()
        assert (folder / "scontrol.log").read_text().startswith("requeue ")
        before = measured(store)
        assert 3 <= before < TRIALS
        second = sbatch(folder, store)
        assert second.wait(timeout=500) == 0, (folder / "job.log").read_text()
        with open_store(store, read_only=True) as opened:
            assert opened.search("digits-quickstart").state is SearchState.COMPLETE
            trials = opened.trials("digits-quickstart")
        assert sorted(trial.number for trial in trials) == list(range(len(trials)))
        assert sum(trial.state.finished for trial in trials) == TRIALS
        assert used(store) <= {address(name) for name in NODES}, "no Ray but this one"
        print(used(store), (folder / "job.log").read_text())
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=False)
