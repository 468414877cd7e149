"""``autoprune doctor``: every finding it can make, by machines that are made up; and what it prints."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoprune import api
from autoprune.api import doctor_accelerators, doctor_machine, doctor_packages, doctor_services
from autoprune.api.findings import Finding
from autoprune.cli.main import main
from autoprune.errors import ConfigError
from autoprune.store import new_owner, open_store
from autoprune.testing.store_contract import create, started


def by_check(items: Any) -> dict[str, Finding]:
    return {item.check: item for item in items}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0), *capsys.readouterr()


# --- the command -----------------------------------------------------------------------------------------------------


def test_this_machine_is_looked_at(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "doctor", "--json", "--store", f"sqlite:///{tmp_path}/a.db")
    content = json.loads(out)
    found = {item["check"]: item for item in content["checks"]}
    assert {"python", "torch", "cores", "memory", "gpu", "kernels", "cache", "store", "ray cluster"} <= found.keys()
    assert found["store"]["found"].startswith("none yet at")
    assert code == (0 if content["ok"] else 7)
    assert not (tmp_path / "a.db").exists()
    assert err.endswith(" checks.\n")


def test_a_problem_is_exit_code_7_and_says_the_next_step(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "file" / "home"))
    (tmp_path / "a.db").write_text("not a database, but long enough to be one" * 50)
    code, out, _ = run(capsys, "doctor", "--store", f"sqlite:///{tmp_path}/a.db")
    assert code == 7
    assert "problem: cache. Set the environment variable AUTOPRUNE_HOME" in out
    assert "not an SQLite database" in out


def test_neither_torch_nor_ray_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from autoprune import api; api.doctor('sqlite:///none.db')\n"
        "print([name for name in ('torch', 'ray', 'torchvision', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> None:
        raise OSError("no such thing")

    monkeypatch.setattr(doctor_machine, "memory", broken)
    report = api.doctor(f"sqlite:///{tmp_path}/a.db")
    assert by_check(report.problems)["memory"].found == "it could not be looked at: OSError: no such thing"
    assert len(report.items) > 15


# --- packages --------------------------------------------------------------------------------------------------------


def test_versions_are_held_against_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.5.0+cu124", "numpy": "2.1.0", "ray": "2.60.0", "scipy": "1.2"}
    monkeypatch.setattr(doctor_packages, "version_of", versions.get)
    requires = [
        "torch<2.14,>=2.6",
        "numpy>=1.26",
        "ray[tune]>=2.40",
        "optuna>=5",
        "scipy>=1.11",
        'timm>=1; extra == "timm"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    found = by_check(doctor_packages.packages())
    assert {name: found[name].status for name in ("torch", "numpy", "ray", "optuna", "scipy")} == {
        **{"torch": "problem", "numpy": "ok", "ray": "ok", "optuna": "problem", "scipy": "problem"}
    }
    assert (found["torch"].found, found["torch"].expected) == ("2.5.0+cu124", "<2.14,>=2.6")
    assert found["extra timm"].hint == "pip install 'autoprune[timm]'"
    assert (found["checkpoints"].status, found["checkpoints"].expected) == ("warning", "torch>=2.10")


def test_a_new_torch_needs_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("2.10.0", "2.13.0+cpu", "3.0"):
        monkeypatch.setattr(doctor_packages, "version_of", lambda name, version=version: version)
        assert list(doctor_packages._old_torch()) == []


# --- machine ---------------------------------------------------------------------------------------------------------


def files(monkeypatch: pytest.MonkeyPatch, contents: dict[str, str]) -> None:
    """The system's files, as a machine or a container would show them."""
    monkeypatch.setattr(doctor_machine, "_text", lambda path: contents.get(str(path), ""))


MEMINFO = "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n"


@pytest.mark.parametrize(
    ("contents", "share", "limit"),
    [
        ({"/sys/fs/cgroup/cpu.max": "150000 100000", "/sys/fs/cgroup/memory.max": "4294967296"}, 1.5, 2**32),
        ({"/sys/fs/cgroup/cpu.max": "max 100000", "/sys/fs/cgroup/memory.max": "max"}, None, None),
        (
            {
                "/proc/self/cgroup": "4:memory:/box\n1:cpu,cpuacct:/box\n",
                "/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000",
                "/sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
                "/sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1073741824",
            },
            0.5,
            2**30,
        ),
        ({"/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, None, None),
    ],
)
def test_limits_of_containers_of_both_kinds(
    monkeypatch: pytest.MonkeyPatch, contents: dict[str, str], share: float | None, limit: int | None
) -> None:
    files(monkeypatch, {"/proc/meminfo": MEMINFO, **contents})
    assert doctor_machine._cpu_share() == share
    assert doctor_machine._memory_limit() == limit
    cores = by_check(doctor_machine.processor())["cores"]
    assert cores.status == ("warning" if share is not None and share < 1 else "ok")
    memory = by_check(doctor_machine.memory())["memory"]
    assert memory.status == ("warning" if limit == 2**30 else "ok")
    assert ("this container may use" in memory.found) == (limit is not None)


def test_little_shared_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=64 << 20, free=64 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = by_check(doctor_machine.memory())["shared memory"]
    assert (found.status, "--shm-size" in found.hint) == ("warning", True)
    assert by_check(doctor_machine.cache())["disk"].status == "warning"


def test_the_file_system_of_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:30 / /shared rw - nfs4 host:/x rw\n"
        f"31 22 0:31 / {tmp_path}/a\\040b rw - fuse.sshfs me@host rw\n"
    )
    files(monkeypatch, {"/proc/self/mountinfo": mounts})
    assert doctor_machine.file_system(Path("/shared/x")) == "nfs4"
    assert doctor_machine.file_system(Path("/sharedness")) == "ext4"
    (tmp_path / "a b").mkdir()
    found = by_check(doctor_services.store_health(f"sqlite:///{tmp_path}/a b/s.db"))
    assert (found["store place"].status, "sshfs" in found["store place"].found) == ("warning", True)


# --- accelerators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "built", "seen", "expected"),
    [
        ([], None, 0, {"gpu": "ok", "cuda of torch": "ok"}),
        ([], "12.8", 0, {"gpu": "ok", "cuda of torch": "warning"}),
        (["GPU 0: A100"], None, 0, {"cuda of torch": "problem"}),
        (["GPU 0: A100"], "12.8", 0, {"cuda of torch": "ok", "gpu of torch": "problem"}),
        (["GPU 0: A100", "  MIG 1g.5gb Device 0:"], "12.8", 1, {"gpu of torch": "ok"}),
    ],
)
def test_gpus_and_builds(
    monkeypatch: pytest.MonkeyPatch, cards: list[str], built: str | None, seen: int, expected: dict[str, str]
) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: seen > 0, device_count=lambda: seen, get_device_name=lambda place: "A100"
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, __version__="2.13.0"))
    monkeypatch.setattr(doctor_accelerators, "_cards", lambda: cards)
    monkeypatch.setattr(doctor_accelerators, "_cuda_of", lambda package: built)
    found = by_check(doctor_accelerators.accelerators())
    assert {check: found[check].status for check in expected} == expected


def test_cards_are_read_from_the_drivers_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho '  MIG 1g.18gb     Device  0: (UUID: MIG-2)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert doctor_accelerators._cards() == ["GPU 0: NVIDIA H200", "MIG 1g.18gb     Device  0:"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert doctor_accelerators._cards() == []


def test_missing_kernels_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_NATIVE", "0")
    (found,) = doctor_accelerators.kernels()
    assert (found.status, "AUTOPRUNE_NATIVE=0" in found.found) == ("warning", True)


# --- store and Ray ---------------------------------------------------------------------------------------------------


def test_the_store_says_who_drives_and_what_was_cut_off(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        for name in ("one", "two"):
            create(store, name)
            lease = store.claim(name, owner=new_owner(), ttl_seconds=60)
            store.start_trial(lease, started(0))
        store.release(lease)
        found = by_check(doctor_services.store_health(url))
    assert found["drivers"].found == "one is being run"
    assert (found["stale trials"].status, "two (1)" in found["stale trials"].found) == ("warning", True)
    assert found["store file"].found == "sound"


def test_a_store_that_cannot_be_reached_is_a_problem_without_its_password() -> None:
    report = api.doctor("mysql://me:hush@db/x")
    said = by_check(report.problems)["store"]
    assert "hush" not in json.dumps(report.to_dict())
    assert "mysql" in said.found


def fake_ray(monkeypatch: pytest.MonkeyPatch, examine: Any) -> None:
    monkeypatch.setitem(sys.modules, "autoprune.executors.ray_doctor", SimpleNamespace(examine=examine))


SEEN = SimpleNamespace(nodes=3, cpus=6.0, gpus=0.0, head="10.0.0.1:6379", loopback=False, token=False)


@pytest.mark.parametrize(
    ("changes", "status"), [({}, "warning"), ({"token": True}, "ok"), ({"loopback": True}, "ok")], ids=str
)
def test_a_cluster_without_tokens_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, bool], status: str
) -> None:
    seen = SimpleNamespace(**{**SEEN.__dict__, **changes})
    fake_ray(monkeypatch, lambda address: seen)
    found = by_check(doctor_services.ray_health("10.0.0.1:6379", start=False))
    assert "3 nodes, 6 cores" in found["ray cluster"].found
    assert found["ray token"].status == status
    assert "ray token" not in by_check(doctor_services.ray_health(None, start=True))


def test_a_cluster_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise ConfigError("nothing answers.", "Check the port.")

    fake_ray(monkeypatch, refuse)
    found = by_check(doctor_services.ray_health("10.0.0.1:1", start=False))["ray cluster"]
    assert (found.status, found.found, found.hint) == ("problem", "nothing answers.", "Check the port.")


@pytest.mark.slow
def test_everything_is_tried(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "doctor", "--full", "--json", "--store", f"sqlite:///{tmp_path}/a.db")
    found = {item["check"]: item["found"] for item in json.loads(out)["checks"]}
    assert code == 0
    assert "can be imported" in found["torchvision operators"]
    assert found["ray cluster"].startswith("started here: 1 node,")
