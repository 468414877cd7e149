"""The epoch loop: a generator that trains one epoch each time it is asked for the next report."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.config.schema import Recipe
from autoprune.data.dataset import Dataset
from autoprune.errors import SearchAborted
from autoprune.training.augmentation import EpochPlan, augment, padding_for, plan_epoch
from autoprune.training.precision import autocast_dtype
from autoprune.training.schedule import lr_at
from autoprune.training.scoring import normalise, score

__all__ = ["EpochReport", "Trainer"]

_CHECK_STEPS = 50
_VAL_BATCH = 500


@dataclass(frozen=True)
class EpochReport:
    """One epoch of training, and where the model stands after it."""

    epoch: int
    """From 1."""
    epochs: int
    loss: float
    """Mean over the epoch's (augmented) training images, label smoothing included."""
    train_top1: float
    """On the epoch's augmented training images, while the weights were moving."""
    val_top1: float
    """On search-val, after the epoch."""
    seconds: float
    images_per_second: float
    """Of training alone, without the validation."""


class Trainer:
    """Trains ``model`` on ``dataset.train`` as the recipe says, in place, on the GPU where there is one.

    With the same recipe, data, starting weights and machine, the result is the same, also after ``state`` was carried
    to another trainer between two epochs.
    """

    def __init__(self, model: nn.Module, dataset: Dataset, recipe: Recipe) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dataset = dataset
        self.recipe = recipe
        self.epoch = 0
        self._images = torch.tensor(dataset.train.images, device=self.device)
        self._labels = torch.tensor(dataset.train.labels, device=self.device)
        self._batch = min(recipe.batch_size, len(self._labels))
        self._steps = len(self._labels) // self._batch  # the images left over differ in every epoch
        self._padding = padding_for(min(dataset.image_shape[1:]))
        self._dtype = autocast_dtype(recipe.dtype, self.device.type)
        self._optimizer = _sgd(self.model, recipe)

    def run(self) -> Iterator[EpochReport]:
        """Train the epochs that remain, one for each report. Raises SearchAborted when the loss is not finite."""
        while self.epoch < self.recipe.epochs:
            started = time.perf_counter()
            loss, top1 = self._train_epoch()
            trained = time.perf_counter()
            val_top1 = self._validate()
            self.epoch += 1
            yield EpochReport(
                epoch=self.epoch,
                epochs=self.recipe.epochs,
                loss=loss,
                train_top1=top1,
                val_top1=val_top1,
                seconds=time.perf_counter() - started,
                images_per_second=self._steps * self._batch / (trained - started),
            )

    def state(self) -> dict[str, Any]:
        """All that the remaining epochs depend on; plain tensors and numbers."""
        return {"epoch": self.epoch, "model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state()``. Raises KeyError, ValueError or RuntimeError when it does not fit."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.epoch = int(state["epoch"])

    def _train_epoch(self) -> tuple[float, float]:
        recipe = self.recipe
        plan = plan_epoch(len(self._labels), self._padding, seed=recipe.seed, epoch=self.epoch, device=self.device)
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.model.train()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(recipe.seed * 1_000_003 + self.epoch)  # dropout, too, is a function of (seed, epoch)
            for step in range(self._steps):
                images, labels = self._batch_of(plan, step)
                loss, logits = self._step(images, labels, self.epoch * self._steps + step)
                loss_sum += loss
                correct += (logits.argmax(1) == labels).sum()
                if step % _CHECK_STEPS == _CHECK_STEPS - 1 or step == self._steps - 1:
                    self._check(float(loss_sum))
        return float(loss_sum) / self._steps, int(correct) / (self._steps * self._batch)

    def _batch_of(self, plan: EpochPlan, step: int) -> tuple[Tensor, Tensor]:
        part = slice(step * self._batch, (step + 1) * self._batch)
        chosen = plan.order[part]
        images = self._images[chosen]
        if self.recipe.augment != "none":
            flips = plan.flips[part] if self.recipe.augment == "crop_flip" else None
            images = augment(images, plan.rows[part], plan.columns[part], flips, self._padding)
        images = images.contiguous(memory_format=torch.channels_last)
        return normalise(images, self.dataset.mean, self.dataset.std), self._labels[chosen]

    def _step(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        for group in self._optimizer.param_groups:
            group["lr"] = lr_at(self.recipe, step, self.recipe.epochs * self._steps)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach(), logits.detach()

    def _validate(self) -> float:
        data = self.dataset
        metrics = score(self.model, data.search_val, mean=data.mean, std=data.std, batch_size=_VAL_BATCH)
        self._check(metrics["loss"])
        return metrics["top1"]

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            lr = self.recipe.lr
            raise SearchAborted(
                f"training diverged in epoch {self.epoch + 1} of {self.recipe.epochs}: the loss is {loss}.",
                f"Lower base.recipe.lr (now {lr:g}, try {lr / 3:.2g}) or lengthen base.recipe.warmup.",
            )


def _sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Weight decay on the weights of layers alone: it harms biases and BatchNorm (Goyal et al. 2017, section 5.3)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [item for item in parameters if item.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [item for item in parameters if item.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
