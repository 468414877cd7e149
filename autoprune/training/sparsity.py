"""Training that prepares filters for removal: an L1 pull on BatchNorm's scales, and filters held at zero.

Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017;
He, Kang, Dong, Fu, Yang, "Soft Filter Pruning", IJCAI 2018, whose loop He, Liu, Wang, Hu, Yang, "Filter Pruning via
Geometric Median", CVPR 2019, runs with another choice of filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.config.recipes import Recipe
from autoprune.data.dataset import Dataset
from autoprune.training.loop import Trainer

__all__ = ["Chosen", "FilterZeroing", "SparseScales", "ZeroingTrainer", "l1_pull", "scales"]

_Place = tuple[str, int, Tensor]
"""Parameter or buffer, dimension, positions along it (n,) int64."""


def scales(model: nn.Module) -> list[nn.Parameter]:
    """The scale of every BatchNorm that has one, in the order of the modules."""
    return [
        module.weight
        for module in model.modules()
        if isinstance(module, _BatchNorm) and isinstance(module.weight, nn.Parameter)
    ]


@contextmanager
def l1_pull(parameters: list[nn.Parameter], strength: float) -> Iterator[None]:
    """Within the block every backward pass adds exactly ``strength * sign(parameter)`` to the gradient, 0 at 0.

    That is the sub-gradient of ``strength * sum |parameter|``; it never gives exact zeros.
    """

    def pulled(parameter: nn.Parameter) -> Callable[[Tensor], Tensor]:
        return lambda gradient: gradient + strength * torch.sign(parameter.detach()).to(gradient.dtype)

    handles = [parameter.register_hook(pulled(parameter)) for parameter in parameters]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class SparseScales(Trainer):
    """The epoch loop with an L1 pull of ``strength`` on all BatchNorm scales. Weight decay acts on them as the recipe
    says."""

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        recipe: Recipe,
        *,
        strength: float,
        on_pause: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(model, dataset, recipe, on_pause=on_pause)
        self._strength = strength

    def _step(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        with l1_pull(scales(self.model), self._strength):
            return super()._step(images, labels, step)


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is to be zero."""

    units: Mapping[str, Tensor] = field(default_factory=dict)
    """Group -> units, ascending (n,) int64."""
    filters: Sequence[_Place] = ()
    """What makes these channels."""
    constants: Sequence[_Place] = ()
    """What lets a zeroed channel still emit a constant: biases, and BatchNorm's bias and running mean."""


class FilterZeroing:
    """Sets filters of a model to zero, in place; ``choose`` says which, from the model as it stands."""

    def __init__(self, choose: Callable[[nn.Module], Chosen]) -> None:
        self._choose = choose
        self.chosen = Chosen()

    def choose(self, model: nn.Module) -> None:
        """Choose anew; nothing is set to zero yet."""
        self.chosen = self._choose(model)

    def apply(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, silent: bool = True) -> None:
        """Zero the filters and, if ``silent``, the constants, so that cutting the channels changes nothing.

        With an ``optimizer`` its momentum for them is forgotten too: it would move them without any gradient.
        """
        tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
        with torch.no_grad():
            for name, dim, positions in (*self.chosen.filters, *(self.chosen.constants if silent else ())):
                tensor = tensors[name]
                at = positions.to(tensor.device)
                tensor.index_fill_(dim, at, 0.0)
                momentum = optimizer.state.get(tensor, {}).get("momentum_buffer") if optimizer else None
                if momentum is not None:
                    momentum.index_fill_(dim, at, 0.0)


class ZeroingTrainer(Trainer):
    """The epoch loop after each epoch of which filters are chosen and set to zero.

    ``mode`` ``soft`` (the papers' text): zeroed filters are trained on and may come back. BatchNorm's bias is left
    alone until the end: behind a channel that is zero throughout no gradient would pass a ReLU. ``hard`` (what FPGM's
    released code does by masking gradients): they stay zero until the next choice, constants included.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        recipe: Recipe,
        *,
        zeroing: FilterZeroing,
        mode: str,
        on_pause: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(model, dataset, recipe, on_pause=on_pause)
        self._zeroing, self._hard = zeroing, mode == "hard"
        if self._hard:
            self._zero()

    def state(self) -> dict[str, Any]:
        chosen = self._zeroing.chosen
        return {**super().state(), "zeroed": [dict(chosen.units), list(chosen.filters), list(chosen.constants)]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self._zeroing.chosen = Chosen(*state["zeroed"])

    def _train_epoch(self) -> tuple[float, float]:
        trained = super()._train_epoch()
        self._zero()
        return trained

    def _step(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        result = super()._step(images, labels, step)
        if self._hard:
            self._zeroing.apply(self.model, self._optimizer)
        return result

    def _zero(self) -> None:
        self._zeroing.choose(self.model)
        self._zeroing.apply(self.model, self._optimizer if self._hard else None, silent=self._hard)
