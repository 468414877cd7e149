"""Attention whose heads can be cut: whole heads leave, head_dim and so the scale of the products stay.

Two kinds are known: torch's ``nn.MultiheadAttention``, and modules with a linear ``qkv``, a linear ``proj`` and the
numbers ``num_heads``, ``head_dim`` and ``attn_dim`` (timm's vision transformers), whose forward uses these numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NarrowAttention", "head_shape", "set_head_count"]


class NarrowAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` with fewer heads than ``embed_dim / head_dim``, which torch's own forward refuses.

    Arguments, shapes and results are those of ``nn.MultiheadAttention`` with ``head_dim`` as it was.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """See ``nn.MultiheadAttention.forward``."""
        q, k, v = self._heads(query, key, value, batched=query.dim() == 3)
        mask = self._mask(key_padding_mask, attn_mask, q)
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            mixed = F.dropout(weights, self.dropout, self.training) @ v
            shown = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
            shown = None
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if query.dim() == 2:
            return out[0], None if shown is None else shown[0]
        return (out if self.batch_first else out.transpose(0, 1)), shown

    def _heads(self, query: Tensor, key: Tensor, value: Tensor, *, batched: bool) -> list[Tensor]:
        """Each (batch, heads, length, head_dim)."""
        bias = self.in_proj_bias
        if query is key is value:
            parts = F.linear(query, self.in_proj_weight, bias).chunk(3, -1)
        else:
            biases = (None,) * 3 if bias is None else bias.chunk(3)
            weights = self.in_proj_weight.chunk(3)
            inputs = (query, key, value)
            parts = tuple(F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True))
        found = []
        for part in parts:
            rows = part.unsqueeze(0) if not batched else part if self.batch_first else part.transpose(0, 1)
            found.append(rows.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2))
        return found

    def _mask(self, padding: Tensor | None, mask: Tensor | None, like: Tensor) -> Tensor | None:
        """Both masks as one that is added to the scores, broadcast over (batch, heads, queries, keys)."""
        total = None
        for given, is_padding in ((padding, True), (mask, False)):
            if given is None:
                continue
            added = given.to(like.dtype)
            if given.dtype == torch.bool:
                added = torch.zeros_like(given, dtype=like.dtype).masked_fill_(given, -math.inf)
            if is_padding:
                added = added.reshape(-1, 1, 1, added.shape[-1])
            elif added.dim() == 3:  # one per head, of all heads: which of them are left is not known here
                raise ValueError("attention whose heads were cut takes one mask for all heads, got one for each head")
            total = added if total is None else total + added
        return total


def head_shape(module: nn.Module) -> tuple[int, int] | None:
    """(heads, head_dim) of attention whose heads can be cut; None for every other module."""
    if type(module) in (nn.MultiheadAttention, NarrowAttention):  # a subclass may have another forward
        attention: Any = module
        plain = attention.in_proj_weight is not None and attention.bias_k is None and not attention.add_zero_attn
        return (attention.num_heads, attention.head_dim) if plain else None
    qkv, proj = getattr(module, "qkv", None), getattr(module, "proj", None)
    numbers = [getattr(module, name, None) for name in ("num_heads", "head_dim", "attn_dim")]
    if not isinstance(qkv, nn.Linear) or not isinstance(proj, nn.Linear) or not all(type(n) is int for n in numbers):
        return None
    heads, head_dim, inner = numbers
    return (heads, head_dim) if heads * head_dim == inner else None  # type: ignore[operator, return-value]


def set_head_count(module: nn.Module) -> None:
    """Set the number of heads of attention from its (sliced) tensors."""
    if isinstance(module, nn.MultiheadAttention):
        module.num_heads = module.in_proj_weight.shape[0] // (3 * module.head_dim)
        if module.in_proj_weight.shape != (3 * module.embed_dim, module.embed_dim):
            module.__class__ = NarrowAttention
            module._qkv_same_embed_dim = False  # the fused encoder layer, which knows full attention only, looks here
    else:
        other: Any = module
        other.attn_dim = other.qkv.out_features // 3
        other.num_heads = other.attn_dim // other.head_dim
