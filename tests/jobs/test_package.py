"""What travels with a job, and what does not."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import autoprune
from autoprune.cluster.package import SUBMISSION, archive, own_package, travelling, with_neighbours
from autoprune.config.loading import load_search
from autoprune.config.schema import SearchConfig
from autoprune.errors import ConfigError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def config(**content: Any) -> SearchConfig:
    model = content.pop("model", {"kind": "builtin", "name": "resnet8"})
    space = {"model": model, "data": {"kind": "digits"}, **content.pop("space", {})}
    return load_search({"name": "s", "space": space, **content})


def own(path: str) -> dict[str, Any]:
    return {"kind": "file", "path": path, "factory": "make"}


def test_the_files_of_a_configuration_travel_and_nothing_else() -> None:
    Path("nets").mkdir()
    for name in ("nets/own.py", "own.pt", "table.json", "secret.txt"):
        Path(name).write_text(name)
    asked = config(
        model=own("./nets/own.py"), space={"base": {"checkpoint": "own.pt"}}, latency={"table": "table.json"}
    )
    content, files = travelling(asked)
    assert files == {"nets/own.py": Path("nets/own.py"), "own.pt": Path("own.pt"), "table.json": Path("table.json")}
    assert content["space"]["model"]["path"] == "nets/own.py"
    assert "store" not in content
    assert load_search(content).space.base.checkpoint == "own.pt"


def test_absolute_paths_are_places_of_the_cluster(tmp_path: Path) -> None:
    content, files = travelling(config(model=own("/cluster/own.py"), space={"base": {"checkpoint": "~/own.pt"}}))
    assert files == {}
    assert content["space"]["model"]["path"] == "/cluster/own.py"
    assert content["space"]["base"]["checkpoint"] == "~/own.pt"


@pytest.mark.parametrize("path", ["../own.py", "autoprune/own.py", "submission.json"])
def test_a_file_that_would_leave_the_folder_or_hide_ours_gets_a_place_of_its_own(path: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("")
    content, files = travelling(config(model=own(path)))
    (name,) = files
    assert name.startswith("files/")
    assert content["space"]["model"]["path"] == name


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"space\.model\.path: there is no file 'own\.py' here.*absolute path"):
        travelling(config(model=own("own.py")))


def test_data_do_not_travel(tmp_path: Path) -> None:
    for data in ({"kind": "cifar10"}, {"kind": "image_folder", "root": "images"}):
        with pytest.raises(ConfigError, match=r"data do not travel.*--set space\.data\.root"):
            travelling(config(space={"data": data}))
    travelling(config(space={"data": {"kind": "cifar10", "root": "/data"}}))


def test_neighbours() -> None:
    Path("lib/__pycache__").mkdir(parents=True)
    for name in ("lib/a.py", "lib/__pycache__/a.pyc", "b.py"):
        Path(name).write_text("")
    found = with_neighbours({"own.py": Path("own.py")}, ["lib", "./b.py"])
    assert set(found) == {"own.py", "lib/a.py", "b.py"}
    for wrong in ("../work", "/etc/hostname"):
        with pytest.raises(ConfigError, match="does not lie below the current folder"):
            with_neighbours({}, [wrong])
    with pytest.raises(ConfigError, match="no such file or folder"):
        with_neighbours({}, ["none.py"])


def test_our_own_package_is_whole() -> None:
    root = Path(autoprune.__file__).parent
    names = set(own_package())
    for path in root.rglob("*"):
        if path.suffix in (".py", ".cpp", ".h", ".yaml", ".js", ".css", ".html", ".j2", ".typed"):
            assert f"autoprune/{path.relative_to(root).as_posix()}" in names
    assert not any("__pycache__" in name for name in names)


def test_equal_content_is_an_equal_archive(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    first = archive({"a": tmp_path / "a"}, {"store": "sqlite:////s.db"})
    (tmp_path / "a").touch()
    assert archive({"a": tmp_path / "a"}, {"store": "sqlite:////s.db"}) == first
    assert archive({"a": tmp_path / "a"}, {"store": None}) != first
    with zipfile.ZipFile(io.BytesIO(first)) as packed:
        assert json.loads(packed.read(SUBMISSION)) == {"store": "sqlite:////s.db"}
        assert packed.getinfo(SUBMISSION).external_attr >> 16 == 0o600
    with pytest.raises(ConfigError, match="cannot be read"):
        archive({"a": tmp_path / "gone"}, {})
