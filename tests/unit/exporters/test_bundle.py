"""Exported folders: what was saved comes back, and what is damaged, foreign or dangerous is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from autoprune.config.schema import BuiltinModel, FileModel
from autoprune.errors import ConfigError, Conflict, ExportMismatch, NotFound
from autoprune.exporters.bundle import Description, load_model, save_bundle
from autoprune.models import registry
from autoprune.space.space import SearchSpace

SHAPE = (3, 32, 32)


def pruned(config: BuiltinModel) -> tuple[nn.Module, dict[str, int]]:
    """A model with every group at half width, its BatchNorm not in its initial state."""
    from autoprune.pruning.criteria import get
    from autoprune.pruning.ranking import keep, rank
    from autoprune.pruning.slicing import slice_model

    torch.manual_seed(0)
    model = registry.build(config, num_classes=10, in_channels=3)
    model(torch.randn(8, *SHAPE))
    space = SearchSpace.from_module(model.eval(), torch.zeros(1, *SHAPE), check=False)
    candidate = space.uniform(0.5)
    chosen = keep(rank(model, space.groups, get("l1")), space.groups, candidate)
    return slice_model(model, space.groups, chosen).eval(), dict(candidate.widths)


def description(config: BuiltinModel | FileModel, widths: dict[str, int]) -> Description:
    return Description(
        model=config,
        num_classes=10,
        input_shape=SHAPE,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        class_names=tuple("abcdefghij"),
        widths=widths,
        metrics={"top1": 0.5},
        baseline={"top1": 0.6},
        origin={"search": "s", "trial": 3},
    )


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn", "mobilenet_v2"])
def test_what_is_loaded_computes_what_was_saved(tmp_path: Path, name: str) -> None:
    config = BuiltinModel(name=name)
    model, widths = pruned(config)
    folder = save_bundle(tmp_path / "out", model, description(config, widths))
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "model.json", "model.safetensors"]
    loaded = load_model(folder)
    images = torch.randn(5, *SHAPE)
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    full = registry.build(config, num_classes=10, in_channels=3)
    assert sum(p.numel() for p in loaded.parameters()) < 0.4 * sum(p.numel() for p in full.parameters())
    convolutions = [layer for layer in loaded.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.weight.shape[0] == layer.out_channels for layer in convolutions)
    content = json.loads((folder / "model.json").read_text())
    assert content["widths"] == widths
    assert content["origin"] == {"search": "s", "trial": 3}


def test_damage_and_strangers_are_refused(tmp_path: Path) -> None:
    config = BuiltinModel(name="resnet8")
    model, widths = pruned(config)
    folder = save_bundle(tmp_path / "out", model, description(config, widths))
    weights = folder / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-5] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(ConfigError, match="damaged: its SHA-256"):
        load_model(folder)
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("0.5", "0.6", 1))
    with pytest.raises(ConfigError, match=r"model.json is damaged: its SHA-256 .* remove SHA256SUMS"):
        load_model(folder)
    (folder / "SHA256SUMS").unlink()  # as in bundles from before there was a list
    (folder / "model.json").write_text(text.replace('"version": 1', '"version": 99'))
    with pytest.raises(ConfigError, match="version 99"):
        load_model(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_model(folder)
    with pytest.raises(NotFound, match="holds no exported model"):
        load_model(tmp_path)


def test_nothing_is_overwritten_and_nothing_is_left_half_written(tmp_path: Path) -> None:
    config = BuiltinModel(name="resnet8")
    model, widths = pruned(config)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        save_bundle(tmp_path / "taken", model, description(config, widths))
    # The description names another network than the weights: reloading must notice, and nothing may stay.
    wrong = description(BuiltinModel(name="resnet20"), widths)
    with pytest.raises((ConfigError, ExportMismatch)):
        save_bundle(tmp_path / "out", model, wrong)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


def test_a_users_file_is_run_only_with_permission(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        "from torch import nn\n"
        "def make(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 900, num_classes))\n"
    )
    config = FileModel(kind="file", path=str(source), factory="make")
    model = registry.build(config, num_classes=10, in_channels=3).eval()
    folder = save_bundle(tmp_path / "out", model, description(config, {}))
    source.unlink()  # the bundle has its own copy
    with pytest.raises(ConfigError, match="allow_code=True"):
        load_model(folder)
    assert load_model(folder, allow_code=True)(torch.zeros(1, *SHAPE)).shape == (1, 10)
    code = folder / "architecture.py"
    code.write_text(code.read_text().replace("900", "901"))
    with pytest.raises(ConfigError, match=r"architecture\.py is damaged: its SHA-256"):
        load_model(folder, allow_code=True)
