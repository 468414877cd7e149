"""The weights that a run starts from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.config.schema import ModelConfig
from autoprune.hypernet.network import PruningNet
from autoprune.models import registry
from autoprune.pruning.ranking import keep
from autoprune.pruning.reconstruction import Material, make_reconstructor
from autoprune.pruning.slicing import slice_model
from autoprune.retraining.arms import require_start
from autoprune.training.scoring import normalise
from autoprune.types import Candidate, ChannelGroup

__all__ = ["Origins", "new_weights", "starting_module"]

_SCRATCH = 0x5C7A
"""Keeps new weights apart from the base model's own initial ones, which are drawn from its recipe's seed."""


@dataclass(frozen=True, eq=False)
class Origins:
    """All that an arm may start from, as plain data that crosses process borders."""

    model: ModelConfig
    num_classes: int
    in_channels: int
    groups: tuple[ChannelGroup, ...]
    state: Mapping[str, np.ndarray]
    """Of the base model."""
    ranking: Mapping[str, np.ndarray]
    """Units of each group, best first; empty where a hypernetwork makes the candidates' weights."""
    initial_seed: int | None
    """The base model's training began with the weights that this seed gives; None: that is not known."""
    hypernet: Mapping[str, np.ndarray] | None = None
    reconstruction: Material | None = None
    """How the search reconstructed its candidates; None: not at all."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Of the images that ``reconstruction`` holds, if any: per channel, for pixels in [0, 1]."""

    def build(self) -> nn.Module:
        """The full model with weights from torch's current seed."""
        return registry.build(self.model, num_classes=self.num_classes, in_channels=self.in_channels)


def starting_module(start: str, candidate: Candidate, seed: int, origins: Origins) -> nn.Module:
    """The pruned network as a run begins, in memory of its own; ``start`` as in :class:`arms.Arm`.

    Only ``scratch`` depends on ``seed``. Raises ConfigError when the arm lacks what it starts from.
    """
    require_start(
        start,
        ranked=bool(origins.ranking),
        initial=origins.initial_seed is not None,
        hypernet=origins.hypernet is not None,
    )
    if start == "scratch":
        return new_weights(origins.build, origins.groups, candidate, seed)
    if start == "initial":
        full = _seeded(origins.build, origins.initial_seed or 0)
    else:
        full = origins.build()
        full.load_state_dict({name: torch.tensor(array) for name, array in origins.state.items()})
    if origins.hypernet is not None and start == "hypernet":
        state = {name: torch.tensor(array) for name, array in origins.hypernet.items()}
        return PruningNet.from_state(full, origins.groups, state).build(candidate)
    kept = keep(origins.ranking, origins.groups, candidate)
    sliced = slice_model(full, origins.groups, kept)
    if start == "inherit" and origins.reconstruction is not None:
        _reconstruct(sliced, full, kept, origins, origins.reconstruction)
    return sliced


def _reconstruct(
    sliced: nn.Module, full: nn.Module, kept: Mapping[str, np.ndarray], origins: Origins, material: Material
) -> None:
    """As the search did; a candidate of full width stays as it is."""
    if not any(len(kept[group.name]) < group.units for group in origins.groups if group.name in kept):
        return
    images = None
    if material.images is not None:
        images = normalise(torch.tensor(material.images), origins.mean, origins.std)
    make_reconstructor(full.eval(), origins.groups, material, images)(sliced, kept)


def new_weights(
    build: Callable[[], nn.Module], groups: Sequence[ChannelGroup], candidate: Candidate, seed: int
) -> nn.Module:
    """The pruned network as its own code would initialise it at these widths: a function of the widths and the seed.

    ``build`` knows only the full widths. So a new full network is cut, channels counted from the first, and weights
    are scaled to what fewer inputs or outputs would have given them.
    """
    full = _seeded(build, int(np.random.SeedSequence((seed, _SCRATCH)).generate_state(1)[0]))
    units = {group.name: group.unit for group in groups}
    sliced = slice_model(
        full, groups, {name: np.arange(width // units[name]) for name, width in candidate.widths.items()}
    )
    _rescale(full, sliced)
    return sliced


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


# --- initialisation --------------------------------------------------------------------------------------------------

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_Fan = Callable[[Tensor], float]
# In this order of preference where the layers do not tell: PyTorch's own layers look at their inputs.
_FANS: tuple[_Fan, ...] = (
    lambda weight: weight[0].numel(),
    lambda weight: weight.numel() / weight.shape[1],
    lambda weight: (weight[0].numel() + weight.numel() / weight.shape[1]) / 2,
    lambda weight: 1.0,
)


def _rescale(full: nn.Module, sliced: nn.Module) -> None:
    """Variances are 1 / fan times a constant (He et al. 2015, Glorot and Bengio 2010), or constant."""
    layers = {name: layer for name, layer in full.named_modules() if isinstance(layer, _LAYERS)}
    for kinds in (_LAYERS[:3], _LAYERS[3:]):
        own = {name: layer for name, layer in layers.items() if isinstance(layer, kinds)}
        fan = _fan([layer.weight.detach() for layer in own.values()])
        for name, layer in own.items():
            other = sliced.get_submodule(name)
            weight = other.weight
            if isinstance(weight, Tensor) and weight.shape != layer.weight.shape:
                with torch.no_grad():
                    weight.mul_(math.sqrt(fan(layer.weight) / fan(weight)))
                    if isinstance(other.bias, Tensor):  # PyTorch's own: uniform within 1 / sqrt(inputs), or zero
                        other.bias.mul_(math.sqrt(_FANS[0](layer.weight) / _FANS[0](weight)))


def _fan(weights: Sequence[Tensor]) -> _Fan:
    """The rule under which variance times fan differs least between the layers of one kind."""
    drawn = [weight for weight in weights if weight.numel() > 1 and float(weight.std()) > 0]
    if len(drawn) < 2:
        return _FANS[0]

    def spread(fan: _Fan) -> float:
        return float(np.std([math.log(float(weight.var()) * fan(weight)) for weight in drawn]))

    return min(_FANS, key=spread)
