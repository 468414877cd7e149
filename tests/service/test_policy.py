"""What configurations from the network may name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoprune.config.schema import SearchConfig
from autoprune.errors import AutopruneError, ConfigError
from autoprune.service.policy import Refused, read_config
from autoprune.service.settings import Settings

YAML = "application/yaml"


def config(**content: Any) -> dict[str, Any]:
    space = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}
    return {"name": "n", "space": {**space, **content.pop("space", {})}, **content}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "base.pt").touch()
    (root / "space.yaml").write_text(yaml.safe_dump(config()["space"]))
    (tmp_path / "secret.yaml").write_text("password: 1")
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "digits.yaml").write_text(yaml.safe_dump(config()["space"]))
    return Settings(store="sqlite:///a.db", data_root=root, output=tmp_path / "out", spaces=tmp_path / "spaces")


def read(content: dict[str, Any], settings: Settings) -> SearchConfig:
    return read_config(json.dumps(content).encode(), "application/json", settings)


def test_a_plain_configuration_runs_with_the_output_folder_of_the_server(settings: Settings, tmp_path: Path) -> None:
    found = read(config(output="/etc"), settings)
    assert found.output == str(tmp_path / "out")
    assert found.digest() == SearchConfig.model_validate(config()).digest()


@pytest.mark.parametrize("root", ["images", "data/images", "./images", "../data/images"])
def test_data_is_found_in_the_data_root(settings: Settings, root: str) -> None:
    found = read(config(space={"data": {"kind": "image_folder", "root": root}}), settings)
    assert found.space.data.root == str(settings.data_root / "images")  # type: ignore[union-attr]


def test_nothing_is_downloaded(settings: Settings) -> None:
    found = read(config(space={"data": {"kind": "cifar10"}}), settings)
    assert found.space.data.model_dump() == {
        "kind": "cifar10",
        "root": str(settings.data_root),
        "download": False,
        "search_val": 0.1,
    }
    with pytest.raises(Refused, match="download"):
        read(config(space={"data": {"kind": "cifar10", "download": True}}), settings)


@pytest.mark.parametrize("path", ["space.yaml", "digits.yaml", "search_spaces/digits.yaml"])
def test_a_space_file_of_the_server_may_be_named(settings: Settings, path: str) -> None:
    assert read({"name": "n", "space": path}, settings).space == SearchConfig.model_validate(config()).space


OUTSIDE = [
    "/etc/passwd",
    "../outside",
    "images/../../outside",
    "link",
    "link/x",
    "~/x",
    "file:///etc/passwd",
    "http://evil.example/x",
    "\\\\server\\share",
    "a\0b",
    "x" * 5000,
]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: repr(path[:20]))
@pytest.mark.parametrize("where", ["root", "checkpoint", "hypernet", "latency", "space"])
def test_files_outside_of_the_data_root_are_refused(settings: Settings, where: str, path: str) -> None:
    weights = {"weights": {"kind": "hypernet", "checkpoint": path}}
    asked = {
        "root": config(space={"data": {"kind": "image_folder", "root": path}}),
        "checkpoint": config(space={"base": {"checkpoint": path}}),
        "hypernet": config(evaluator=weights),
        "latency": config(latency={"table": path}),
        "space": {"name": "n", "space": path},
    }[where]
    with pytest.raises((Refused, ConfigError)):
        read(asked, settings)


def test_a_link_out_of_the_data_root_is_no_space_file(settings: Settings) -> None:
    with pytest.raises(Refused, match="outside"):
        read({"name": "n", "space": "link.yaml"}, settings)


CODE: list[dict[str, Any]] = [
    config(space={"model": {"kind": "file", "path": "net.py", "factory": "make"}}),
    config(space={"data": {"kind": "file", "path": "data.py", "factory": "make"}}),
    config(space={"data": {"kind": "function", "name": "f"}}),
    config(space={"model": {"kind": "module", "type": "Net", "digest": "d", "inputs": [[1, 3, 8, 8]]}}),
    config(space={"model": {"kind": "timm", "name": "hf-hub:evil/model"}}),
    config(space={"model": {"kind": "timm", "name": "local-dir:/tmp/x"}}),
    config(space={"model": {"kind": "timm", "name": "resnet18", "args": {"checkpoint_path": "/tmp/x.pt"}}}),
    config(space={"model": {"kind": "timm", "name": "resnet18", "args": {"pretrained_cfg": {"file": "/x"}}}}),
    config(space={"model": {"kind": "torchvision", "name": "os:system"}}),
    config(space={"model": {"kind": "builtin", "name": "resnet8", "args": {"a b": 1}}}),
    config(space={"model": {"kind": "builtin", "name": "resnet8", "args": {"x": ["http://evil.example"]}}}),
    config(executor={"kind": "ray", "address": "evil.example:6379"}),
    config(executor={"kind": "ray", "address": "auto"}),
    config(store="sqlite:////etc/autoprune.db"),
    config(store="sqlite:///results/autoprune.db"),
]


@pytest.mark.parametrize("content", CODE, ids=lambda content: json.dumps(content)[-60:])
def test_code_other_machines_and_stores_are_refused(settings: Settings, content: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        read(content, settings)


def test_allow_code_lets_files_and_clusters_through_but_no_store(settings: Settings) -> None:
    import dataclasses

    trusting = dataclasses.replace(settings, allow_code=True)
    found = read(CODE[0] | {"executor": {"kind": "ray", "address": "auto"}}, trusting)
    assert found.space.model.path == "net.py"  # type: ignore[union-attr]
    with pytest.raises(Refused, match="store"):
        read(config(store="sqlite:///b.db"), trusting)


def test_rules_and_constraints_keep_their_own_grammar(settings: Settings) -> None:
    rules = [{"match": "layer[12].*/conv?", "exclude": True}]
    found = read(config(space={"rules": rules}, constraints=["macs <= baseline / 2"]), settings)
    assert found.space.rules[0].match == rules[0]["match"]


BROKEN = [
    b"",
    b"[]",
    b"null",
    b"{",
    b'{"name": NaN}',
    b'{"name": 1e999}',
    b'{"name": "n", "name": "m"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"seed": ' + b"9" * 5000 + b"}",
    b'{"name": "\xff"}',
    b'{"name": "\\ud800"}',
]


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: body[:20].decode("latin1"))
def test_broken_json_is_a_mistake_of_the_caller(settings: Settings, body: bytes) -> None:
    with pytest.raises(ConfigError):
        read_config(body, "application/json", settings)


ATTACKS = [
    "a: !!python/object/apply:os.system ['touch /tmp/owned']",
    "!!python/name:os.system",
    "a: !!python/module:os",
    "a: !!python/object/new:subprocess.Popen [[touch, /tmp/owned]]",
    "a: !ruby/object:Gem::Installer {}",
    "a: &a [1]\nb: *a",
    "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
    "<<: {a: 1}\n<<: {b: 2}",
    "a: " + "[" * 40 + "]" * 40,
    "- " * 100_000,
    "{a: " * 50_000,
    "a: 1:" + "59:" * 50_000 + "1",
    "a: " + "9" * 100_000,
    "? [a, b]\n: 1",
    "a: \x00",
    "\ufeff- a",
    "a: 2020-13-45",
    "a: !!binary '***'",
    "a: !!timestamp soon",
    "a: !!bool soon",
    "a: !!int soon",
    "%TAG ! tag:evil,2020:\n---\na: !x 1",
]


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: text[:30])
def test_yaml_attacks_are_refused(settings: Settings, text: str) -> None:
    with pytest.raises(AutopruneError):
        read_config(text.encode(), YAML, settings)
    assert not Path("/tmp/owned").exists()
