"""Ways to train a pruned architecture to its end, as plain data: where the weights start, how long and at which rates.

The conventions are those of Liu et al. 2019 (Rethinking the Value of Network Pruning), sections 3 and 4: K1 are the
epochs of the baseline's recipe, K2 those of fine-tuning, F and F' the MACs of the full and of the pruned model. All
arms share architecture, augmentation, batch size, weight decay, and the data order of a seed; the model of the last
epoch counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol

from autoprune.config.recipes import Recipe
from autoprune.errors import ConfigError, did_you_mean

__all__ = [
    "ARMS",
    "DEFAULT_ARMS",
    "Arm",
    "Finetune",
    "FinetuneCosine",
    "FinetuneRewind",
    "Hypernet",
    "Rewind",
    "ScratchB",
    "ScratchE",
    "Training",
    "parse_arm",
    "require_start",
    "scratch_b_epochs",
    "spec",
    "training_macs",
]


@dataclass(frozen=True)
class Training:
    """A recipe, and the epoch of its schedule that a run begins with (from 0)."""

    recipe: Recipe
    first_epoch: int = 0

    @property
    def epochs(self) -> int:
        """Epochs that are trained."""
        return self.recipe.epochs - self.first_epoch


class Arm(Protocol):
    """One way; a frozen dataclass whose fields are its options."""

    name: ClassVar[str]
    start: ClassVar[str]
    """``inherit``: the base model's weights; ``scratch``: new ones; ``initial``: those that the base model's training
    began with; ``hypernet``: what the search's hypernetwork makes."""

    def training(self, base: Recipe, ratio: float) -> Training:
        """For a model with ``1 / ratio`` of the baseline's MACs; ``base`` is the baseline's recipe."""
        ...


@dataclass(frozen=True)
class Finetune:
    """Inherited weights at a constant small rate (the paper: 40 epochs after 160, at 0.001)."""

    name: ClassVar[str] = "finetune"
    start: ClassVar[str] = "inherit"
    lr: float = 1e-3
    share: float = 0.25
    """K2 as a share of K1."""

    def training(self, base: Recipe, ratio: float) -> Training:
        epochs = _share_of(base, self.share)
        constant = {"schedule": "constant", "warmup": 0.0}
        return Training(base.model_copy(update={"epochs": epochs, "lr": self.lr, **constant}))


@dataclass(frozen=True)
class FinetuneCosine:
    """Inherited weights, a cosine from ``lr`` to 0, without warm-up."""

    name: ClassVar[str] = "finetune_cosine"
    start: ClassVar[str] = "inherit"
    lr: float = 0.01
    share: float = 0.25

    def training(self, base: Recipe, ratio: float) -> Training:
        epochs = _share_of(base, self.share)
        return Training(base.model_copy(update={"epochs": epochs, "lr": self.lr, "schedule": "cosine", "warmup": 0.0}))


@dataclass(frozen=True)
class FinetuneRewind:
    """Inherited weights, and the last ``share`` of the baseline's own schedule again (Renda et al. 2020, learning rate
    rewinding); 1: the whole schedule, so as many epochs as ``scratch_e``."""

    name: ClassVar[str] = "finetune_rewind"
    start: ClassVar[str] = "inherit"
    share: float = 1.0

    def training(self, base: Recipe, ratio: float) -> Training:
        return Training(base, base.epochs - min(base.epochs, _share_of(base, self.share)))


@dataclass(frozen=True)
class ScratchE:
    """New weights, epochs and schedule of the baseline."""

    name: ClassVar[str] = "scratch_e"
    start: ClassVar[str] = "scratch"

    def training(self, base: Recipe, ratio: float) -> Training:
        return Training(base)


@dataclass(frozen=True)
class ScratchB:
    """New weights, compute of the baseline: floor(K1 F / F') epochs of its schedule, stretched."""

    name: ClassVar[str] = "scratch_b"
    start: ClassVar[str] = "scratch"
    cap: float | None = None
    """Largest F / F' that is made up for (the paper's ImageNet runs: 2)."""
    plus_finetune: float = 0.0
    """K2 / K1: the epochs of an inheriting arm that it is compared with are added (Wang et al. 2023)."""

    def training(self, base: Recipe, ratio: float) -> Training:
        more = _share_of(base, self.plus_finetune) if self.plus_finetune else 0
        return Training(base.model_copy(update={"epochs": scratch_b_epochs(base.epochs, ratio, self.cap) + more}))


@dataclass(frozen=True)
class Rewind:
    """The weights that the base model's training began with, of the channels that were kept; the baseline's schedule
    (Frankle and Carbin 2019, for channels)."""

    name: ClassVar[str] = "rewind"
    start: ClassVar[str] = "initial"

    def training(self, base: Recipe, ratio: float) -> Training:
        return Training(base)


@dataclass(frozen=True)
class Hypernet:
    """Weights that the search's hypernetwork makes for these widths, and the last ``share`` of the schedule."""

    name: ClassVar[str] = "hypernet"
    start: ClassVar[str] = "hypernet"
    share: float = 1.0

    def training(self, base: Recipe, ratio: float) -> Training:
        return FinetuneRewind(self.share).training(base, ratio)


_Kind = type[Finetune | FinetuneCosine | FinetuneRewind | ScratchE | ScratchB | Rewind | Hypernet]
_KINDS: tuple[_Kind, ...] = (Finetune, FinetuneCosine, FinetuneRewind, ScratchE, ScratchB, Rewind, Hypernet)
ARMS: Mapping[str, _Kind] = {kind.name: kind for kind in _KINDS}

DEFAULT_ARMS = (
    "finetune",
    "finetune_cosine",
    "finetune_rewind",
    "scratch_e",
    "scratch_b",
    "scratch_b:plus_finetune=1",
    "rewind",
)

_RANGES = {"lr": (0.0, math.inf), "share": (0.0, 1.0), "cap": (0.0, math.inf), "plus_finetune": (-1e-12, math.inf)}
"""Option -> above this, up to that."""


def parse_arm(text: str) -> Arm:
    """An arm as written on the command line: its name, and ``:option=number`` as often as needed.

    >>> parse_arm("scratch_b:cap=2").cap
    2.0

    Raises ConfigError for an unknown name or option, or a number out of range.
    """
    name, *settings = text.strip().split(":")
    if name not in ARMS:
        raise ConfigError(f"there is no arm {name!r}.", did_you_mean(name, ARMS))
    known = [field.name for field in fields(ARMS[name])]
    values = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in known:
            hint = did_you_mean(key, known) if known else f"{name} has no options."
            raise ConfigError(f"arm {text!r}: there is no option {key!r}.", hint)
        values[key] = _number(text, key, value)
    return ARMS[name](**values)


def require_start(start: str, *, ranked: bool, initial: bool, hypernet: bool) -> None:
    """Raises ConfigError when there is nothing for an arm to start from: no ranking to inherit by, no initial weights
    of the base model, no hypernetwork."""
    if start == "hypernet" and not hypernet:
        raise ConfigError(
            "arm 'hypernet' needs a hypernetwork, and the search has none.",
            "Leave the arm out, or compare trials of a search with weights: {kind: hypernet}.",
        )
    if start in ("inherit", "initial") and not ranked:
        raise ConfigError(
            "the search's weights came from a hypernetwork, so there is no ranking of the channels to inherit by.",
            "Take the arms hypernet, scratch_e and scratch_b, or a search with weights: {kind: inherit}.",
        )
    if start == "initial" and not initial:
        raise ConfigError(
            "arm 'rewind' needs the weights that the base model's training began with, and the base model was read "
            "from a checkpoint.",
            "Leave the arm out, or let autoprune train the base model (base.recipe).",
        )


def spec(arm: Arm) -> str:
    """The text that :func:`parse_arm` reads, with only the options that are not at their defaults.

    >>> spec(Finetune(lr=0.01)), spec(ScratchE())
    ('finetune:lr=0.01', 'scratch_e')
    """
    plain = ARMS[arm.name]()
    named = [(field.name, getattr(arm, field.name)) for field in fields(ARMS[arm.name])]
    return ":".join([arm.name, *(f"{key}={value:g}" for key, value in named if value != getattr(plain, key))])


def scratch_b_epochs(epochs: int, ratio: float, cap: float | None = None) -> int:
    """floor(K1 F / F'), at least 1; ``ratio`` is F / F'.

    >>> scratch_b_epochs(160, 1 / (1 - 0.342)), scratch_b_epochs(90, 3.0, cap=2.0)
    (243, 180)
    """
    return max(1, math.floor(epochs * min(ratio, cap or math.inf) + 1e-9))


def training_macs(macs: float, images: int, epochs: int) -> float:
    """Multiply-accumulates of a training: 3 forward passes an image, since the backward pass computes gradients of
    inputs and of weights. ``images``: those of one epoch; scoring is not counted.
    """
    return 3.0 * macs * images * epochs


def _share_of(base: Recipe, share: float) -> int:
    return max(1, round(share * base.epochs))


def _number(text: str, key: str, value: str) -> float:
    low, high = _RANGES[key]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not low < number <= high or math.isinf(number):
        expected = f"a number above {max(low, 0):g}" + (f" and at most {high:g}" if math.isfinite(high) else "")
        raise ConfigError(f"arm {text!r}: {key} is {value!r}, expected {expected}.")
    return number
