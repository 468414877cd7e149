"""Programs: what is written computes what the model computes, at any batch size, and a wrong file never appears."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune import export_module
from autoprune.config.schema import BuiltinModel
from autoprune.errors import ConfigError, Conflict, ExportMismatch
from autoprune.exporters import onnx as onnx_format
from autoprune.exporters import torch_export, torchscript
from autoprune.exporters.description import Description, metadata
from autoprune.exporters.formats import read_metadata, save_program
from autoprune.models import registry
from autoprune.space.space import SearchSpace

FORMATS = ("onnx", "torch_export", "torchscript")
FILES = {"onnx": onnx_format.FILE, "torch_export": torch_export.FILE, "torchscript": torchscript.FILE}
LOADERS: dict[str, Callable[[Path], Any]] = {
    "onnx": onnx_format.load,
    "torch_export": torch_export.load,
    "torchscript": torchscript.load,
}
SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def pruned() -> nn.Module:
    """A small residual network at odd widths, its BatchNorm not in its initial state."""
    from autoprune.pruning.slicing import slice_model

    torch.manual_seed(0)
    model = registry.build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=3)
    model(torch.randn(16, *SHAPE) * 2 + 1)
    space = SearchSpace.from_module(model.eval(), torch.zeros(1, *SHAPE), check=False)
    keep = {group.name: torch.arange(0, group.units - 3).numpy() for group in space.groups}
    return slice_model(model, space.groups, keep).eval()


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_program_computes_what_the_model_computes(tmp_path: Path, pruned: nn.Module, format: str, fold: bool) -> None:
    folder = export_module(
        pruned,
        torch.zeros(1, *SHAPE),
        tmp_path / "out",
        format=format,
        fold_bn=fold,
        licence="MIT",
        metadata={"note": "mine"},
    )
    # no weights beside it that could get lost
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", FILES[format]]
    run = LOADERS[format](folder / FILES[format])
    for batch in (1, 4, 9):
        images = torch.randn(batch, *SHAPE)
        with torch.no_grad():
            expected = pruned(images)
        (got,) = run((images,))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    facts = read_metadata(folder)
    assert facts is not None
    assert facts["licence"] == "MIT"
    assert facts["note"] == "mine"
    assert int(facts["params"]) == sum(p.numel() for p in pruned.parameters())
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in pruned.modules())
    assert int(facts["folded_batchnorms"]) == (norms if fold else 0)


def test_a_fixed_batch_size_is_the_only_one(tmp_path: Path, pruned: nn.Module) -> None:
    folder = export_module(pruned, torch.zeros(1, *SHAPE), tmp_path / "out", format="onnx", batch=3)
    session = onnx_format.open_session(folder / "model.onnx", threads=1)
    assert session.get_inputs()[0].shape == [3, *SHAPE]
    assert session.get_inputs()[0].name == "images"


def test_the_description_is_inside_as_text() -> None:
    facts = metadata(
        Description(
            model=BuiltinModel(name="resnet8"),
            num_classes=10,
            input_shape=SHAPE,
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            class_names=("a", "b"),
            widths={"conv1": 8},
            metrics={"top1": 0.75, "macs": 1e6, "params": 5e3, "loss": 1.0},
            baseline={"top1": 0.8},
            origin={"search": "s", "trial": 3, "autoprune": "0.1.0"},
            data="digits",
            licence="BSD-3-Clause",
        )
    )
    assert all(isinstance(value, str) for value in facts.values())
    assert {"search", "trial", "autoprune", "macs", "params", "top1", "data", "licence"} <= set(facts)
    assert (facts["trial"], facts["top1"], facts["data"], facts["licence"]) == ("3", "0.75", "digits", "BSD-3-Clause")
    assert json.loads(facts["widths"]) == {"conv1": 8}
    assert json.loads(facts["input"])["shape"] == list(SHAPE)


class _Stateful(nn.Module):
    """Every call answers differently: no file can reproduce it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.calls = 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1.0
        return self.layer(images).mean((2, 3)) + self.calls


class _Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) if images.sum() > 0 else -images.mean((2, 3))


class _BatchBound(nn.Module):
    """Right at the batch size that it was traced with only."""

    def forward(self, images: Tensor) -> Tensor:
        rows = int(images.shape[0])
        return images.flatten(1) * rows


@pytest.mark.parametrize("format", FORMATS)
def test_a_mismatch_is_an_error_and_leaves_nothing(tmp_path: Path, format: str) -> None:
    with pytest.raises(ExportMismatch, match="does not reproduce") as caught:
        export_module(_Stateful(), torch.zeros(1, *SHAPE), tmp_path / "out", format=format)
    assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_froze_the_batch_size_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(ExportMismatch):
        export_module(_BatchBound(), torch.zeros(1, *SHAPE), tmp_path / "out", format="torchscript")
    assert list(tmp_path.iterdir()) == []
    export_module(_BatchBound(), torch.zeros(1, *SHAPE), tmp_path / "out", format="torchscript", batch=2)


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_what_cannot_be_converted_is_said(tmp_path: Path, format: str) -> None:
    with pytest.raises(ConfigError, match=f"_Branching cannot be converted to {format}: "):
        export_module(_Branching(), torch.ones(1, *SHAPE), tmp_path / "out", format=format)
    assert list(tmp_path.iterdir()) == []


def test_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(3, 5)

        def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
            return self.first(one) + self.second(other), self.first(one)

    model = Two().eval()
    for format in FORMATS:
        folder = export_module(model, (torch.randn(2, 4), torch.randn(2, 3)), tmp_path / format, format=format)
        sample = (torch.randn(6, 4), torch.randn(6, 3))
        got = LOADERS[format](folder / FILES[format])(sample)
        with torch.no_grad():
            for one, other in zip(got, model(*sample), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_nothing_is_overwritten(tmp_path: Path, pruned: nn.Module) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(Conflict, match="not empty"):
        export_module(pruned, torch.zeros(1, *SHAPE), tmp_path / "out", format="torchscript")
    with pytest.raises(ConfigError, match="no export format 'onx'") as caught:
        export_module(pruned, torch.zeros(1, *SHAPE), tmp_path / "new", format="onx")
    assert "Did you mean 'onnx'?" in caught.value.hint
    with pytest.raises(ConfigError, match="no name to rebuild it from"):
        export_module(pruned, torch.zeros(1, *SHAPE), tmp_path / "new", format="safetensors")


def test_a_missing_package_names_the_extra(tmp_path: Path, pruned: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnx_format.import_module

    def without(name: str) -> Any:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real(name)

    monkeypatch.setattr(onnx_format, "import_module", without)
    with pytest.raises(ConfigError, match="needs the package 'onnxruntime'") as caught:
        export_module(pruned, torch.zeros(1, *SHAPE), tmp_path / "out", format="onnx")
    assert "pip install 'autoprune[onnx]'" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_real_inputs_are_verified_too(tmp_path: Path) -> None:
    """A model that is wrong on large values only: random inputs would not show it."""

    class Clipped(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if torch.jit.is_tracing():
                return images.flatten(1)
            return images.clamp(-50, 50).flatten(1)

    example = (torch.zeros(2, 3),)
    real = (torch.full((2, 3), 100.0),)
    save_program(tmp_path / "fine", Clipped(), example, format="torchscript", metadata={})
    with pytest.raises(ExportMismatch):
        save_program(tmp_path / "bad", Clipped(), example, format="torchscript", metadata={}, real=[real])
