"""Checkpoints as people have them: half precision, wrapped models, averaged weights, quantised ones."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from autoprune.errors import ConfigError
from autoprune.models.checkpoint import load_into, load_state
from autoprune.models.torchvision_shim import torchvision


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "weights.pt")
    return folder / "weights.pt"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_models_own(tmp_path: Path, dtype: torch.dtype) -> None:
    model, other = net().to(dtype), net()
    nn.init.zeros_(other[0].weight)
    load_into(other, saved(tmp_path, model.state_dict()))
    assert {tensor.dtype for tensor in other.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(other[0].weight, model[0].weight.float())


@pytest.mark.parametrize("wrapper", ["data parallel", "averaged", "both"])
def test_wrapped_models(tmp_path: Path, wrapper: str) -> None:
    model: nn.Module = net()
    if wrapper != "averaged":
        model = nn.DataParallel(model)
    if wrapper != "data parallel":
        model = torch.optim.swa_utils.AveragedModel(model)
    other = net()
    nn.init.zeros_(other[0].weight)
    load_into(other, saved(tmp_path, {"epoch": 3, "model": model.state_dict()}))
    assert torch.equal(other[0].weight, net()[0].weight)


def test_a_frozen_batchnorm_takes_the_weights_of_a_batchnorm_and_back(tmp_path: Path) -> None:
    frozen = net()
    frozen[1] = torchvision.ops.FrozenBatchNorm2d(8)
    nn.init.normal_(thawed := net()[1].weight)
    plain = net()
    with torch.no_grad():
        plain[1].weight.copy_(thawed)
    load_into(frozen, saved(tmp_path, plain.state_dict()))
    assert torch.equal(frozen[1].weight, plain[1].weight)
    load_into(other := net(), saved(tmp_path, frozen.state_dict()))
    assert torch.equal(other[1].weight, plain[1].weight)


def test_quantised_weights_are_refused_by_name(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces where quantisation is moving to
        dynamic = torch.ao.quantization.quantize_dynamic(net(), {nn.Linear})
        with pytest.raises(ConfigError, match=r"quantised model: '4\._packed_params\.\w+' is packed") as caught:
            load_state(saved(tmp_path, dynamic.state_dict()))
    assert "then quantise the pruned model" in caught.value.hint
    state = net().state_dict()
    state["0.weight"] = (state["0.weight"] * 100).to(torch.int8)
    with pytest.raises(ConfigError, match=r"quantised model: '0\.weight' is torch\.int8"):
        load_state(saved(tmp_path, {"state_dict": state}))
