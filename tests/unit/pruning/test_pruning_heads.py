"""Attention loses whole heads, and computes the same as when nobody reads them."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.cost.trace import trace
from autoprune.pruning.attention import NarrowAttention, head_shape
from autoprune.pruning.equivalence import TOLERANCE, max_error
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import adopt_tensors, slice_model

WIDTH, HEADS = 24, 3


class Block(nn.Module):
    """One block of a vision transformer over 16 patches."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, WIDTH, 4, stride=4), nn.LayerNorm(WIDTH)
        self.attention, self.head = attention, nn.Linear(WIDTH, 5)

    def attend(self, x: Tensor) -> Tensor:
        return self.attention(x)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        return self.head((x + self.attend(self.norm(x))).mean(1))


class TorchBlock(Block):
    def __init__(self, *, need_weights: bool = False, **options: Any) -> None:
        super().__init__(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options))
        self.need_weights = need_weights

    def attend(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=self.need_weights)[0]


def encoder_layer() -> nn.Module:
    return Block(nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True))


def timm_block(**options: Any) -> nn.Module:
    importlib.import_module("autoprune.models.torchvision_shim")  # timm imports torchvision
    timm = pytest.importorskip("timm")
    return Block(timm.layers.Attention(WIDTH, HEADS, **options))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "torch": TorchBlock,
    "torch, weights returned": lambda: TorchBlock(need_weights=True),
    "torch, no bias": lambda: TorchBlock(bias=False),
    "torch's encoder layer": encoder_layer,
    "timm": timm_block,
    "timm, gated": lambda: timm_block(qkv_bias=True, gated=True),
    "timm, normalised queries": lambda: timm_block(qk_norm=True, norm_layer=nn.LayerNorm),
    "timm, narrow heads": lambda: timm_block(attn_head_dim=4),
}
EXAMPLE = torch.zeros(1, 3, 16, 16)


def head_counts(model: nn.Module) -> list[int]:
    return [shape[0] for shape in map(head_shape, model.modules()) if shape]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_heads_are_one_group(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().eval()
    groups = discover(model, EXAMPLE).groups
    (heads,) = [group for group in groups if group.units == HEADS]
    keep = {heads.name: np.array([0, 2])}
    assert max_error(model, groups, EXAMPLE, keep) <= TOLERANCE
    sliced = slice_model(model, groups, keep)
    assert head_counts(sliced) == [2]
    assert head_counts(model) == [HEADS]
    table = trace(model, EXAMPLE, groups)
    measured = trace(sliced, EXAMPLE, ()).baseline
    widths = np.array([[2 * heads.unit if group is heads else group.channels for group in groups]])
    assert (table.macs(widths)[0], table.params(widths)[0]) == (measured["macs"], measured["params"])


@pytest.mark.parametrize("make", [TorchBlock, timm_block])
def test_a_sliced_network_can_be_copied_and_built_from_its_tensors(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().eval()
    groups = discover(model, EXAMPLE).groups
    sliced = slice_model(model, groups, {groups[0].name: np.array([0, 2])})
    image = torch.randn(2, 3, 16, 16)
    adopted = make().eval()
    adopt_tensors(adopted, sliced.state_dict())
    torch.testing.assert_close(adopted(image), sliced(image))
    torch.testing.assert_close(copy.deepcopy(sliced)(image), sliced(image))
    (again,) = discover(sliced, EXAMPLE).groups
    assert again.units == 2
    narrower = slice_model(sliced, [again], {again.name: np.array([1])})
    directly = slice_model(model, groups, {groups[0].name: np.array([2])})
    torch.testing.assert_close(narrower(image), directly(image))


def causal(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).triu(1)


CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "padded": {"key_padding_mask": torch.tensor([[False] * 5 + [True], [False] * 6])},
    "causal": {"attn_mask": causal(6), "is_causal": True},
    "both masks": {
        "attn_mask": torch.zeros(6, 6, dtype=torch.float64).masked_fill(causal(6), -torch.inf),
        "key_padding_mask": torch.tensor([[0.0] * 5 + [-torch.inf], [0.0] * 6], dtype=torch.float64),
    },
    "each head's weights": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
}


@pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("batch_first", [True, False])
def test_at_full_width_it_is_torchs_attention(options: dict[str, Any], batch_first: bool) -> None:
    torch.manual_seed(0)
    full = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first, dtype=torch.float64).eval()
    own = copy.deepcopy(full)
    own.__class__ = NarrowAttention
    one, other = torch.randn(2, 2, 6, WIDTH, dtype=torch.float64)
    inputs = [(one, one, one), (one, other, other), (one[0], other[0], one[0])]
    if not batch_first:
        inputs = [tuple(x.transpose(0, 1) if x.dim() == 3 else x for x in given) for given in inputs]
    for given in inputs:
        chosen = dict(options)
        if given[0].dim() == 2 and "key_padding_mask" in chosen:
            chosen["key_padding_mask"] = chosen["key_padding_mask"][0]
        out, weights = own(*given, **chosen)
        expected, expected_weights = full(*given, **chosen)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(weights, expected_weights)


def test_masks_of_single_heads_are_refused() -> None:
    narrow = nn.MultiheadAttention(WIDTH, HEADS)
    narrow.__class__ = NarrowAttention
    x = torch.zeros(6, 1, WIDTH)
    with pytest.raises(ValueError, match="one mask for all heads"):
        narrow(x, x, x, attn_mask=torch.zeros(HEADS, 6, 6))


def test_attention_of_another_form_keeps_its_heads() -> None:
    assert head_shape(nn.MultiheadAttention(WIDTH, HEADS, kdim=8, vdim=8)) is None
    model = TorchBlock(add_bias_kv=True).eval()
    assert discover(model, EXAMPLE).groups == ()
