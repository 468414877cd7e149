"""timm's models by name, without downloading anything."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from autoprune.api.spaces import resolved
from autoprune.config.schema import TimmModel
from autoprune.errors import ConfigError
from autoprune.models.registry import build


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="timm cannot be imported") as caught:
        build(TimmModel(name="resnet18"), num_classes=10, in_channels=3)
    assert "autoprune[timm]" in caught.value.hint


@pytest.fixture(scope="module")
def _timm() -> None:
    importlib.import_module("autoprune.models.torchvision_shim")
    pytest.importorskip("timm")


@pytest.mark.usefixtures("_timm")
class TestInstalled:
    def test_classes_channels_and_arguments_arrive(self) -> None:
        config = TimmModel(name="lcnet_035", args={"drop_rate": 0.3})
        model = build(config, num_classes=7, in_channels=1).eval()
        assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 7)
        assert model.drop_rate == 0.3

    def test_image_shape_is_the_published_one(self) -> None:
        config, shape, classes, rules = resolved("timm:xception41")
        assert (config, shape, classes, rules) == (TimmModel(name="xception41"), (3, 299, 299), 1000, ())

    def test_unknown_names_are_answered_with_near_ones(self) -> None:
        with pytest.raises(ConfigError, match="no model 'regnety_04'") as caught:
            resolved("timm:regnety_04")
        assert "regnety_0" in caught.value.hint

    def test_nothing_is_downloaded(self) -> None:
        with pytest.raises(ConfigError, match="'pretrained' cannot be given") as caught:
            build(TimmModel(name="lcnet_035", args={"pretrained": True}), num_classes=7, in_channels=3)
        assert "base.checkpoint" in caught.value.hint

    def test_refused_arguments_are_named(self) -> None:
        with pytest.raises(ConfigError, match="refuses its arguments \\(depth='deep'\\)"):
            build(TimmModel(name="lcnet_035", args={"depth": "deep"}), num_classes=7, in_channels=3)
