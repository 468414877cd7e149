"""A user's model file where it is not: what travels, and that it is built from that alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from autoprune.config.schema import BuiltinModel, FileModel
from autoprune.errors import ConfigError
from autoprune.models import shipped_file as module
from autoprune.models.registry import build
from autoprune.models.shipped_file import ShippedFile, make_with_file, shipped_file

OWN = """
from beside_of_shipped.widths import WIDTH
from torch import nn

def make(num_classes):
    return nn.Linear(WIDTH, num_classes)
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileModel]:
    (tmp_path / "beside_of_shipped").mkdir()
    (tmp_path / "beside_of_shipped/__init__.py").write_text("")
    (tmp_path / "beside_of_shipped/widths.py").write_text("WIDTH = 7\n")
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "data.bin").write_bytes(bytes(1000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_received", {})
    yield FileModel(kind="file", path="own.py", factory="make")
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("beside_of_shipped")]:
        del sys.modules[name]


def _built(config: FileModel) -> nn.Module:
    return build(config, num_classes=3, in_channels=1)


def test_the_file_and_what_it_imports_from_beside_it_travel(config: FileModel) -> None:
    _built(config)
    file = shipped_file(config)
    assert file is not None
    assert sorted(file.sources) == ["beside_of_shipped/__init__.py", "beside_of_shipped/widths.py", "own.py"]


def test_it_is_built_where_it_is_not(
    config: FileModel, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _built(config)
    file = shipped_file(config)
    assert file is not None
    _forget()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(ConfigError, match=r"there is no file 'own\.py'"):
        _built(config)
    model = make_with_file(file, _built, config)
    assert isinstance(model, nn.Linear)
    assert (model.in_features, model.out_features) == (7, 3)
    assert isinstance(_built(config), nn.Linear), "a worker builds its model again for every evaluator"


def test_what_is_wrong_with_it_is_said_as_at_home(config: FileModel) -> None:
    file = ShippedFile("own.py", {"own.py": b"def make():\n    raise ValueError('no')\n"})
    with pytest.raises(ConfigError, match=r"own\.py:2 fails in make\(\): ValueError: no"):
        make_with_file(file, _built, config)


def test_other_models_need_no_file() -> None:
    assert shipped_file(BuiltinModel(name="resnet8")) is None


def test_more_than_fits_is_refused(config: FileModel, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN + "#" * (21 * 2**20))
    _built(config)
    with pytest.raises(ConfigError, match="over 20 MiB"):
        shipped_file(config)
