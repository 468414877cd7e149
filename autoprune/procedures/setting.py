"""What a procedure is carried out on: a base model, its groups and their costs, images, a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.config.recipes import Recipe
from autoprune.cost.table import CostTable
from autoprune.data.dataset import Dataset, Split
from autoprune.procedures.network import Standing
from autoprune.procedures.phases import Length
from autoprune.pruning.allocation import Choices
from autoprune.pruning.calibration import calibrate
from autoprune.training.scoring import normalise, score
from autoprune.types import ChannelGroup, Constraint

__all__ = ["Setting"]


@dataclass(frozen=True, eq=False)
class Setting:
    """Everything that does not change while a procedure runs."""

    base: nn.Module
    """The unpruned model; never changed."""
    groups: tuple[ChannelGroup, ...]
    allowed: Mapping[str, Sequence[int]]
    """Widths in channels that each group may end with, ascending; the first is its floor."""
    cost: CostTable
    budgets: tuple[Constraint, ...]
    """Upper bounds on costs of the model; they can be met."""
    dataset: Dataset
    scored: Split
    """Images of search-val that accuracies are of."""
    calibration: Split
    """Training images for re-estimating BatchNorm after a cut; may be empty."""
    batch_size: int
    recipe: Recipe
    """The base model's."""
    identity: str
    """Digest of the base model, of its images, and of how it is measured."""
    fresh: Callable[[], nn.Module] | None = None
    """The network with the weights that the base model's training began with, if they are known."""
    shares: Mapping[str, float] | None = None
    """A paper's table: the share of each group's units that leaves, instead of the budgets."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the recipe that win over the procedure's."""
    factor: float = 1.0
    """What the procedure's lengths are multiplied by."""
    trains: bool = True
    """False: fine-tuning is left out, also between rounds."""
    seed: int = 0

    @cached_property
    def choices(self) -> Choices:
        """Counts of units within the budgets."""
        unit = {group.name: group.unit for group in self.groups}
        allowed = {name: [width // unit[name] for width in widths] for name, widths in self.allowed.items()}
        bounds = [(item.metric, item.bound(self.cost.baseline)) for item in self.budgets]
        units = self.cost.unit

        def fits(counts: Sequence[int]) -> bool:
            costs = self.cost.metrics((np.array(counts) * units)[None])
            return all(costs[metric][0] <= bound for metric, bound in bounds)

        return Choices(allowed, fits)

    def fixed_counts(self) -> dict[str, int]:
        """Units of each group by the paper's table, else by equal shares within the budgets."""
        return self.choices.uniform() if self.shares is None else self.choices.by_share(self.shares)

    def stage_recipe(self, settings: Mapping[str, Any], length: Length, stage: int) -> tuple[Recipe, Dataset]:
        """Recipe and images of one training.

        Less than an epoch is one over fewer images, drawn anew for each stage.
        """
        content = {**self.recipe.model_dump(), "preset": None, **settings, **self.overrides}
        seed = self.seed * 100_003 + stage
        images = len(self.dataset.train)
        batch = min(int(content["batch_size"]), images)
        steps = images // batch
        updates = max(1, round(self.factor * (length.updates or length.epochs * steps)))
        if updates >= steps:
            epochs = round(updates / steps)
            return Recipe.model_validate({**content, "epochs": epochs, "seed": seed}), self.dataset
        part = _with_train(self.dataset, self.dataset.train.take(updates * batch, seed))
        return Recipe.model_validate({**content, "epochs": 1, "seed": seed}), part

    def batches(self, split: Split, module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (N, C, H, W) float32 as the model sees them and labels (N,), where the model lies."""
        device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
        for start in range(0, len(split), self.batch_size):
            part = slice(start, start + self.batch_size)
            labels = torch.tensor(split.labels[part], device=device)
            yield self.normalised(Split(split.images[part], split.labels[part]), device), labels

    def normalised(self, split: Split, device: torch.device) -> Tensor:
        """All its images as the model sees them: (N, C, H, W) float32."""
        return normalise(torch.tensor(split.images, device=device), self.dataset.mean, self.dataset.std)

    def calibrate(self, module: nn.Module) -> None:
        """Re-estimate BatchNorm's statistics after a cut, as trials of a search do."""
        calibrate(module, (images for images, _ in self.batches(self.calibration, module)))

    def measure(self, module: nn.Module, split: Split | None = None) -> dict[str, float]:
        """``top1`` and ``loss`` on search-val, or on another split."""
        data = self.dataset
        return score(module, split or self.scored, mean=data.mean, std=data.std, batch_size=self.batch_size)

    def costs(self, standing: Standing) -> dict[str, float]:
        """All costs of the network as it stands."""
        widths = np.array([standing.widths[name] for name in self.cost.groups])
        return {name: float(values[0]) for name, values in self.cost.metrics(widths[None]).items()}


def _with_train(dataset: Dataset, train: Split) -> Dataset:
    names = ("search_val", "num_classes", "class_names", "mean", "std", "name", "read_test")
    return Dataset(train, **{name: getattr(dataset, name) for name in names})
