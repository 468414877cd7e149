"""The epoch loop: a generator that trains one epoch each time it is asked for the next report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.config.recipes import Recipe
from autoprune.data.dataset import Dataset
from autoprune.errors import SearchAborted
from autoprune.training.augmentation import EpochPlan, augment, padding_for, plan_epoch, resized_crop
from autoprune.training.averaging import MovingAverage
from autoprune.training.compiling import compiled
from autoprune.training.pace import Pace, Standing, pace_text
from autoprune.training.precision import autocast_dtype
from autoprune.training.schedule import lr_at
from autoprune.training.scoring import normalise, score

__all__ = ["EpochReport", "Trainer", "sgd"]

_PAUSE_STEPS = 50
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
    seconds_left: float
    """To the end of the last epoch, at the pace of this process."""

    @property
    def pace(self) -> str:
        """``812 images/s, 13 min left``; without what is left after the last epoch."""
        text = pace_text(self.images_per_second, self.seconds_left)
        return text if self.epoch < self.epochs else text.rpartition(", ")[0]


class Trainer:
    """Trains ``model`` on ``dataset.train`` as the recipe says, in place, on the GPU where there is one.

    With the same recipe, data, starting weights, machine and number of threads, the result is the same to the bit, also
    after ``state`` was carried to another trainer at any step. ``on_pause`` is called every 50 steps, when the state is
    whole; an epoch of a large network takes long on a CPU.

    With ``recipe.ema`` the model has the averaged weights while it is validated, and from the last validation on.

    A subclass may set the model up before each step, validate otherwise, or choose another optimizer.
    """

    recipe_key = "base.recipe"
    """Where the recipe is in a launch file's space, for hints."""
    compiles = True
    """Whether ``recipe.compile`` is heeded: not by a model that is another one in each step."""

    def __init__(
        self, model: nn.Module, dataset: Dataset, recipe: Recipe, *, on_pause: Callable[[], None] | None = None
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._format = _memory_format(model, self.device)
        self.model = model.to(self.device).to(memory_format=self._format)  # type: ignore[call-overload]
        self.dataset = dataset
        self.recipe = recipe
        self.epoch = 0
        self.step = 0
        self._on_pause = on_pause
        self._loss_sum = torch.zeros((), device=self.device)
        self._correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self._images = torch.tensor(dataset.train.images, device=self.device)
        self._labels = torch.tensor(dataset.train.labels, device=self.device)
        self._batch = min(recipe.batch_size, len(self._labels))
        self._steps = len(self._labels) // self._batch  # the images left over differ in every epoch
        self._padding = padding_for(min(dataset.image_shape[1:]))
        self._dtype = autocast_dtype(recipe.dtype, self.device.type)
        self._optimizer = self._make_optimizer()
        self._ema = MovingAverage(self.model, recipe.ema) if recipe.ema is not None else None
        self._run: Callable[[Tensor], Tensor] | None = None if recipe.compile and self.compiles else self.model
        self._pace = Pace()

    def run(self) -> Iterator[EpochReport]:
        """Train the epochs that remain, one for each report. Raises SearchAborted when the loss is not finite."""
        while self.epoch < self.recipe.epochs:
            started, first = time.perf_counter(), self.step
            loss, top1 = self._train_epoch()
            trained = time.perf_counter()
            if self._ema is not None:
                self._ema.swap()
            val_top1 = self._validate()
            self.epoch, self.step = self.epoch + 1, 0
            if self._ema is not None and self.epoch < self.recipe.epochs:
                self._ema.swap()
            self._pace.validated()
            yield EpochReport(
                epoch=self.epoch,
                epochs=self.recipe.epochs,
                loss=loss,
                train_top1=top1,
                val_top1=val_top1,
                seconds=time.perf_counter() - started,
                images_per_second=(self._steps - first) * self._batch / (trained - started),
                seconds_left=self._seconds_left(),
            )

    def standing(self) -> Standing:
        """Where training is, for ``on_pause`` to show."""
        return Standing(
            epoch=self.epoch + 1,
            epochs=self.recipe.epochs,
            share=self.step / self._steps,
            loss=float(self._loss_sum) / self.step,
            images_per_second=self._pace.images_per_second,
            seconds_left=self._seconds_left(),
        )

    def state(self) -> dict[str, Any]:
        """All that the remaining steps depend on; plain tensors and numbers."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss_sum": self._loss_sum,
            "correct": self._correct,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "ema": None if self._ema is None else self._ema.state(),
            "recipe": self.recipe.model_dump(mode="json"),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state()``. Raises KeyError, ValueError or RuntimeError when it does not fit, ValueError before
        anything is changed when it is of another recipe."""
        _require_same(state.get("recipe"), self.recipe)
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._ema is not None:
            self._ema.load_state(state["ema"])
        self.epoch, self.step = int(state["epoch"]), int(state["step"])
        self._loss_sum.copy_(state["loss_sum"])
        self._correct.copy_(state["correct"])

    def _train_epoch(self) -> tuple[float, float]:
        recipe = self.recipe
        plan = plan_epoch(
            len(self._labels),
            self._padding,
            seed=recipe.seed,
            epoch=self.epoch,
            device=self.device,
            shape=self.dataset.image_shape[1:] if recipe.augment == "resized_crop" else None,
        )
        if self.step == 0:
            self._loss_sum.zero_()
            self._correct.zero_()
        self.model.train()
        self._pace.start()
        paced = self.step
        while self.step < self._steps:
            images, labels = self._batch_of(plan, self.step)
            loss, logits = self._step(images, labels, self.epoch * self._steps + self.step)
            self._loss_sum += loss
            self._correct += (logits.argmax(1) == labels).sum()
            self.step += 1
            if self.step % _PAUSE_STEPS == 0 or self.step == self._steps:
                self._check(float(self._loss_sum))
                self._pace.trained((self.step - paced) * self._batch)
                paced = self.step
                if self._on_pause and self.step < self._steps:
                    self._on_pause()
        return float(self._loss_sum) / self._steps, int(self._correct) / (self._steps * self._batch)

    def _batch_of(self, plan: EpochPlan, step: int) -> tuple[Tensor, Tensor]:
        part = slice(step * self._batch, (step + 1) * self._batch)
        chosen = plan.order[part]
        images = self._images[chosen]
        if plan.boxes is not None:
            images = resized_crop(images, plan.boxes[part], plan.flips[part])
        elif self.recipe.augment != "none":
            flips = plan.flips[part] if self.recipe.augment == "crop_flip" else None
            images = augment(images, plan.rows[part], plan.columns[part], flips, self._padding)
        images = images.contiguous(memory_format=self._format)
        return normalise(images, self.dataset.mean, self.dataset.std), self._labels[chosen]

    def _step(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        self._before(step)
        if self._run is None:
            self._run = compiled(self.model, images, self._dtype)
        for group in self._optimizer.param_groups:
            group["lr"] = lr_at(self.recipe, step, self.recipe.epochs * self._steps)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.recipe.seed * 10**9 + step)  # dropout, too, is a function of (seed, step)
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
                logits = self._run(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self._optimizer.step()
        if self._ema is not None:
            self._ema.update()
        return loss.detach(), logits.detach()

    def _before(self, step: int) -> None:
        """Called before each step, counted from the start of the training."""

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return sgd(self.model, self.recipe)

    def _validate(self) -> float:
        """Top-1 accuracy on search-val after an epoch."""
        data = self.dataset
        metrics = score(self.model, data.search_val, mean=data.mean, std=data.std, batch_size=_VAL_BATCH)
        self._check(metrics["loss"])
        return metrics["top1"]

    def _seconds_left(self) -> float:
        left = self.recipe.epochs - self.epoch
        return self._pace.left((left * self._steps - self.step) * self._batch, left)

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            lr = self.recipe.lr
            raise SearchAborted(
                f"training diverged in epoch {self.epoch + 1} of {self.recipe.epochs}: the loss is {loss}.",
                f"Lower {self.recipe_key}.lr (now {lr:g}, try {lr / 3:.2g}) or lengthen {self.recipe_key}.warmup.",
            )


def _require_same(theirs: Mapping[str, Any] | None, ours: Recipe) -> None:
    """``theirs`` is None in states of before it was kept."""
    mine = ours.model_dump(mode="json")
    if theirs is None or theirs == mine:
        return
    there = Recipe.model_validate(theirs)
    changed = [
        f"{name} is {getattr(there, name)} there and {getattr(ours, name)} here"
        for name in Recipe.model_fields
        if getattr(there, name) != getattr(ours, name)
    ]
    raise ValueError(f"it is of another recipe: {', '.join(changed)}")


def _memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels-last, which is faster, except where torch 2.13 on a CPU writes beyond its buffers.

    That is the weight gradient of a strided 1x1 convolution in channels-last with fewer input channels than a SIMD
    register holds: seen with 3 to 6 on AVX2 (8 floats). AVX-512 holds 16.
    """
    unsafe = device.type == "cpu" and any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < 16
        for module in model.modules()
    )
    return torch.contiguous_format if unsafe else torch.channels_last


def sgd(model: nn.Module, recipe: Recipe, *, fused: bool = False) -> torch.optim.SGD:
    """By default weights of layers alone decay: it harms biases and BatchNorm (Goyal et al. 2017, section 5.3)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [item for item in parameters if item.ndim > 1], "weight_decay": recipe.weight_decay},
        {
            "params": [item for item in parameters if item.ndim <= 1],
            "weight_decay": recipe.weight_decay if recipe.decay == "all" else 0.0,
        },
    ]
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=fused or None)
