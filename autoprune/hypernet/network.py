"""PruningNet over any module: a network that can be run, and trained, at any widths of its search space.

What a convolution's weights depend on is the width encoding of its block: the keep_ratios of the groups that cut it,
and of those that cut a convolution beside it inside the block (one that shares a group which few convolutions mix).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from autoprune.hypernet.generators import FactoredGenerator, Generator, crop
from autoprune.pruning import ranking
from autoprune.pruning.cloning import clone
from autoprune.pruning.slicing import Slicer
from autoprune.types import Candidate, ChannelGroup

__all__ = ["PruningNet"]

_INNER = 2
"""A group is inside a block when so many convolutions, or fewer, mix its channels."""


class PruningNet(nn.Module):
    """``forward`` runs the network at ``widths``, which are set from outside; gradients reach the generators.

    ``network`` is at full width and gives the parameters that are not generated (BatchNorm, biases, linear layers: the
    first channels of them are used), and the part of each convolution's weights that does not depend on the widths. The
    part that does has ``varying`` times its variance at first.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[ChannelGroup],
        *,
        hidden: int = 32,
        rank: int | None = None,
        varying: float = 0.01,
        empty: bool = False,
    ) -> None:
        super().__init__()
        self.network: nn.Module = clone(network).requires_grad_(True)
        self.groups = tuple(groups)
        self.widths = Candidate({})
        self.generators = nn.ModuleDict()
        self._slicer = Slicer(self.network, self.groups)
        self._first = {group.name: np.arange(group.units) for group in groups}
        convolutions = _convolutions(self.network)
        encodings = _encodings(convolutions, self.groups)
        self._plans: dict[int, tuple[str, Tensor, int]] = {}
        """id of a weight -> its generator's name, the groups of its encoding, the dimension that it reads."""
        for name, module in convolutions.items():
            weight = module.weight
            if id(weight) in self._plans or not encodings[name]:
                continue
            inputs = 0 if isinstance(module, _ConvTransposeNd) else 1
            std = math.sqrt(varying * float(weight.detach().var(unbiased=False)))
            shape, size = tuple(weight.shape), len(encodings[name])
            key = name.replace(".", "/")
            with torch.device("meta" if empty else weight.device):
                self.generators[key] = (
                    Generator(shape, size, hidden, std)
                    if rank is None
                    else FactoredGenerator(shape, size, hidden, std, rank)
                )
            self._plans[id(weight)] = (key, torch.tensor(encodings[name]), inputs)
        # the weight gradient of torch 2.13 writes beyond its buffers there, see training/loop.py
        self._unsafe = [
            name
            for name, module in self.network.named_modules()
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1)
        ]

    @classmethod
    def from_state(cls, network: nn.Module, groups: Sequence[ChannelGroup], state: Mapping[str, Tensor]) -> PruningNet:
        """From a ``state_dict``, whose generators are not copied. Raises RuntimeError when it does not fit."""
        firsts = [tensor for name, tensor in state.items() if name.endswith(".first.weight")]
        lefts = [tensor for name, tensor in state.items() if name.endswith(".left")]
        hidden = len(firsts[0]) if firsts else 1
        rank = lefts[0].shape[1] // hidden if lefts else None
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "generators": {}}
        for name, tensor in state.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        made = cls(network, groups, hidden=hidden, rank=rank, empty=True)
        made.network.load_state_dict(parts["network"])
        made.generators.load_state_dict(parts["generators"], assign=True)
        return made.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits, at ``widths``, with generated weights."""
        ratios = self._ratios(self.widths)

        def replaced(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor | None:
            if id(tensor) in self._plans:
                return self._generated(tensor, kept, ratios)
            return crop(tensor, kept) if isinstance(tensor, nn.Parameter) else None

        module = self._slicer(ranking.keep(self._first, self.groups, self.widths), replaced)
        for name in self._unsafe:
            module.get_submodule(name).register_forward_pre_hook(_contiguous)
        logits: Tensor = module(images)
        return logits

    @torch.no_grad()
    def build(self, candidate: Candidate) -> nn.Module:
        """The candidate as a plain network in memory of its own, in eval mode. Its BatchNorm statistics mean nothing.

        Raises ConfigError for groups or widths that the space does not have.
        """
        ratios = self._ratios(candidate)

        def replaced(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor | None:
            if id(tensor) not in self._plans:
                return None
            weight = self._generated(tensor, kept, ratios)
            if weight.ndim == 4:
                weight = weight.contiguous(memory_format=torch.channels_last)
            return nn.Parameter(weight, requires_grad=False)

        module = self._slicer(ranking.keep(self._first, self.groups, candidate), replaced)
        return module.eval().requires_grad_(False)

    def _generated(self, weight: Tensor, kept: Mapping[int, Tensor], ratios: Tensor) -> Tensor:
        key, groups, inputs = self._plans[id(weight)]
        with torch.autocast(weight.device.type, enabled=False):
            made = crop(weight, kept) + self.generators[key](ratios[groups.to(ratios.device)], kept)
            # Kaiming's scale at every width: the variance is two over the number of weights that are summed.
            return made * math.sqrt(weight.shape[inputs] / made.shape[inputs])

    def _ratios(self, candidate: Candidate) -> Tensor:
        """keep_ratio of each group, (G,)."""
        like = next(self.parameters())
        ratios = [candidate.widths.get(group.name, group.channels) / group.channels for group in self.groups]
        return torch.tensor(ratios, dtype=like.dtype, device=like.device)


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in inputs)


def _convolutions(network: nn.Module) -> dict[str, _ConvNd]:
    """Name of the weight -> convolution, where the weight is a parameter of its own."""
    return {
        f"{name}.weight" if name else "weight": module
        for name, module in network.named_modules()
        if isinstance(module, _ConvNd) and isinstance(module._parameters.get("weight"), nn.Parameter)
    }


def _encodings(convolutions: Mapping[str, _ConvNd], groups: Sequence[ChannelGroup]) -> dict[str, list[int]]:
    """Name of a weight -> positions of the groups of its block, ascending."""
    cutting: dict[str, set[int]] = {name: set() for name in convolutions}
    mixing: list[list[str]] = []
    for number, group in enumerate(groups):
        mine = [member for member in group.members if member.parameter in cutting]
        for member in mine:
            cutting[member.parameter].add(number)
        mixing.append([item.parameter for item in mine if item.role != "through"])
    result = {name: set(found) for name, found in cutting.items()}
    for number, group in enumerate(groups):
        if len(set(mixing[number])) <= _INNER:
            inside = [member.parameter for member in group.members if member.parameter in cutting]
            block = set().union(*(cutting[name] for name in inside))
            for name in inside:
                result[name] |= block
    return {name: sorted(found) for name, found in result.items()}
