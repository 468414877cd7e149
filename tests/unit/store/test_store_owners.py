"""Owners of leases: who is surely gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autoprune.errors import Conflict
from autoprune.store import new_owner, open_store
from autoprune.store.leases import is_gone

CLAIM = """
import os, sys, time
from autoprune.store import new_owner, open_store
store = open_store(sys.argv[1])
store.claim("one", owner=new_owner(), ttl_seconds=3600)
print("claimed", flush=True)
time.sleep(600)
"""


def test_this_process_lives_and_owners_differ() -> None:
    assert not is_gone(new_owner())
    assert new_owner() != new_owner()


def test_a_process_of_another_machine_may_live() -> None:
    host, _, rest = new_owner().partition(":")
    assert not is_gone(f"elsewhere-{host}:999999999:0.0")
    assert rest


def test_a_process_of_a_copy_of_this_machine_may_live() -> None:
    """Machines made from one image share their names, and all first process namespaces have one number."""
    host, rest = new_owner().split("/")
    namespace, _, process = rest.partition(".")
    boot, _, pid = process.partition(":")
    assert is_gone(f"{host}/{namespace}.{boot}:999999999:0.0")
    assert not is_gone(f"{host}/{namespace}.{boot[::-1]}:999999999:0.0")
    assert pid


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times are read from /proc")
def test_a_reused_process_id_is_not_the_owner() -> None:
    host, pid, _ = new_owner().rsplit(":", 2)
    assert is_gone(f"{host}:{pid}:1.00000000")
    assert is_gone(f"{host}:999999999:1.00000000")


@pytest.mark.parametrize("reaped", [False, True])
def test_a_killed_owner_frees_its_search_at_once(tmp_path: Path, reaped: bool) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        store.create_search("one", config={}, digest="d", evaluation_digest="e", baseline={})
        with subprocess.Popen([sys.executable, "-c", CLAIM, url], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(Conflict, match=f"process {process.pid}"):
                store.claim("one", owner=new_owner(), ttl_seconds=60)
            os.kill(process.pid, signal.SIGKILL)
            if reaped:
                process.wait()
            else:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert store.claim("one", owner=new_owner(), ttl_seconds=60).epoch == 2
