"""What launch/cluster holds is true: it parses, its commands and options exist, versions agree, no door is open."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.specifiers import SpecifierSet

import autoprune
from autoprune.cli.main import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "launch" / "cluster"
README = (ROOT / "launch" / "README.md").read_text()


def content(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def commands() -> Iterator[str]:
    """Every command line of README.md and of the files, that of a container joined by blanks."""
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        yield from block.splitlines()
    yield from re.findall(r"`((?:ray|autoprune) [^`]+)`", README)
    for service in content("compose.yaml")["services"].values():
        yield shlex.join(service.get("command", []))
        yield shlex.join(service.get("healthcheck", {"test": ["CMD"]})["test"][1:])
    for name in ("on_premise.yaml", "aws.yaml"):
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            yield from content(name)[key]
    yield content("kuberay.yaml")["spec"]["entrypoint"]
    yield (FOLDER / "slurm.sh").read_text().replace("\\\n", " ").partition("\nwait_for_head")[2].partition("'\n")[2]
    yield (FOLDER / "slurm.sh").read_text().replace("\\\n", " ").partition("wait_for_head=")[0]


def uses(program: str) -> list[tuple[str, list[str]]]:
    """Sub-command and ``--options`` of every use of a program."""
    found = []
    for line in "\n".join(commands()).splitlines():
        before = "^" if program == "autoprune" else r"(?:^|[\s/;'(])"
        for match in re.finditer(rf"{before}{program} ([a-z-]+)((?: [^;&|#\n]*)?)", line.partition(" # ")[0]):
            if not line.lstrip().startswith("#"):
                found.append((match[1], re.findall(r"(--[a-z-]+)", match[2])))
    return found


def test_every_file_is_explained_and_every_explained_file_is_there() -> None:
    named = set(re.findall(r"\]\((cluster/[\w.]+)\)", README))
    assert all((ROOT / "launch" / name).is_file() for name in named)
    helpers = {"entrypoint.sh", "Dockerfile.dockerignore"}
    files = {f"cluster/{path.name}" for path in FOLDER.iterdir() if path.is_file() and path.name not in helpers}
    assert files == named


def test_our_commands_and_their_options_exist() -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = uses("autoprune")
    assert {"search", "submit", "serve"} <= {name for name, _ in found}
    for name, options in found:
        accepted = {text for parameter in known[name].params for text in parameter.opts}
        assert set(options) <= accepted, (name, options)


def test_ray_s_commands_and_their_options_exist() -> None:
    from ray.scripts.scripts import cli

    found = uses("ray")
    assert {"start", "up", "down", "dashboard", "get-auth-token", "rsync-up"} <= {n for n, _ in found}
    aliases = {"rsync-up": "rsync_up"}
    for name, options in found:
        command = cli.commands.get(name) or cli.commands[aliases.get(name, name.replace("-", "_"))]
        accepted = {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
        assert set(options) <= accepted, (name, options)


@pytest.mark.parametrize("name", ["on_premise.yaml", "aws.yaml"])
def test_ray_accepts_its_cluster_files(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(content(name)))
    with pytest.raises(Exception, match="not_a_key"):
        validate_config(prepare_config({**content(name), "not_a_key": 1}))
    made = content(name)
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in made[key][-1]
    assert made["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1" in made["head_start_ray_commands"][-1]


def test_the_local_cluster_s_numbers_agree() -> None:
    made = content("on_premise.yaml")
    assert made["min_workers"] == made["max_workers"] == len(made["provider"]["worker_ips"])


def test_versions_agree_with_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    bounds = SpecifierSet(re.findall(r'"ray\[tune\]([^"]+)"', project)[0])
    texts = {path.name: path.read_text() for path in FOLDER.iterdir() if path.is_file()}
    found = re.findall(r"rayproject/ray:([\d.]+)-py(\d)(\d+)", "".join(texts.values()))
    assert found
    rays = {version for version, _, _ in found} | {content("kuberay.yaml")["spec"]["rayClusterSpec"]["rayVersion"]}
    rays |= set(re.findall(r"ray\[default,tune\]==([\d.]+)", texts["Dockerfile"]))
    assert len(rays) == 1, "all nodes of a cluster have the same Ray"
    assert rays.copy().pop() in bounds
    assert tuple(map(int, rays.pop().split(".")[:2])) >= (2, 52), "the first with tokens"
    least = SpecifierSet(re.findall(r'requires-python = "([^"]+)"', project)[0])
    assert all(f"{major}.{minor}" in least for _, major, minor in found)
    ours = set(re.findall(r"autoprune:(\d[\d.]+\d)", "".join(texts.values()) + README))
    assert ours == {autoprune.__version__}
    extras = set(
        re.findall(r"(?:\.|source'|autoprune)\[((?:cluster|postgres)[\w,]*)\]", "".join(texts.values()) + README)
    )
    for extra in {name for group in extras for name in group.split(",")}:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)


def test_no_password_stands_in_a_file_and_only_loopback_is_open() -> None:
    made = content("compose.yaml")
    for name, service in made["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)
        for key, value in service.get("environment", {}).items():
            secret = re.search("PASSWORD|TOKEN", key)
            assert not secret or value.startswith("/run/secrets/"), (name, key)
            named = value.removeprefix("/run/secrets/") if secret else None
            assert named is None or named in service["secrets"], (name, key)
        assert set(service.get("secrets", [])) <= set(made["secrets"])
        assert set(service.get("depends_on", {})) <= set(made["services"])
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= set(made["volumes"])
        assert service.get("environment", {}).get("RAY_AUTH_MODE", "token") == "token"
    for path in [*FOLDER.iterdir(), ROOT / "launch" / "README.md"]:
        if path.is_file():
            assert not re.search(r"://\w+:[^@\s/]+@", path.read_text()), f"{path}: a URL with a password"
    assert "/launch/cluster/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "launch/cluster/secrets" in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()


# Of KubeRay's types (apis/ray/v1), as far as they matter here.
RAY_JOB = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
RAY_CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template"}
WORKERS = HEAD | {"groupName", "replicas", "minReplicas", "maxReplicas"}


def test_the_ray_job_has_fields_that_there_are() -> None:
    from ray.scripts.scripts import start

    made = content("kuberay.yaml")
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayJob")
    cluster = made["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    for found, known in (
        (made["spec"], RAY_JOB),
        (cluster, RAY_CLUSTER),
        (cluster["headGroupSpec"], HEAD),
        (workers, WORKERS),
    ):
        assert set(found) == known
    assert cluster["authOptions"] == {"mode": "token"}
    accepted = {text for parameter in start.params for text in parameter.opts}
    for group in (cluster["headGroupSpec"], workers):
        assert {f"--{key}" for key in group["rayStartParams"]} <= accepted
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize("name", ["slurm.sh", "entrypoint.sh"])
def test_the_shell_accepts_its_scripts(name: str) -> None:
    subprocess.run(["bash", "-n", FOLDER / name], check=True, timeout=10)
    assert (FOLDER / name).stat().st_mode & 0o111, "sbatch and Docker run it"


def test_what_docker_copies_is_there_and_not_ignored() -> None:
    copied = re.findall(r"^COPY --chown=\S+ (.*) \S+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    kept = re.findall(r"^!(.*)$", (FOLDER / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert sorted(names) == sorted(kept)
    assert all((ROOT / name).exists() for name in names)


def test_a_password_file_becomes_a_variable(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("of-a-file")
    script = [str(FOLDER / "entrypoint.sh"), "sh", "-c", "echo ${PGPASSWORD-none} $#", "sh", "one two", "three"]
    for environment, said in (({"PGPASSWORD_FILE": str(tmp_path / "password")}, "of-a-file 2"), ({}, "none 2")):
        found = subprocess.run(
            script, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, timeout=10, check=True
        )
        assert found.stdout.strip() == said
