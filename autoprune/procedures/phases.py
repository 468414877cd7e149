"""What procedures are made of, as plain data: what is scored, how much leaves in a round, what is trained between.

Lengths are those of the paper; the engine multiplies all of a procedure by one factor, so that their proportions stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Finetune", "Layers", "Length", "Phase", "Preset", "Rounds", "Scoring", "Sparsify", "ZeroedTraining"]


@dataclass(frozen=True)
class Length:
    """How long something trains: in epochs, or in updates where the paper counts those."""

    epochs: float = 0.0
    updates: int = 0

    def __str__(self) -> str:
        return f"{self.updates} updates" if self.updates else f"{self.epochs:g} epochs"


@dataclass(frozen=True)
class Finetune:
    """Plain training of the network as it stands."""

    length: Length
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the base model's recipe."""


@dataclass(frozen=True)
class Scoring:
    """From a network to comparable scores of its units."""

    criterion: str
    options: Mapping[str, Any] = field(default_factory=dict)
    normaliser: str = "none"
    penalty: float = 0.0
    """Taken from a score for each million MACs that one unit less would save, after the normaliser."""
    images: int = 0
    """Training images that the criterion sees; 0: it reads the weights alone."""


@dataclass(frozen=True)
class Sparsify:
    """Training with an L1 pull on BatchNorm's scales, before anything is removed."""

    length: Length
    strength: float
    gamma: float
    """BatchNorm's scales begin here, where training begins with new weights."""
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ZeroedTraining:
    """Training after each epoch of which each group's worst units are set to zero; they are cut at its end."""

    length: Length
    scoring: Scoring
    mode: Literal["soft", "hard"]
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rounds:
    """Score, remove, train, until the budget is met."""

    scoring: Scoring
    scope: Literal["uniform", "global", "threshold"]
    """``uniform``: an equal share of each group, or a paper's table, at once. ``global``: the least of all groups.
    ``threshold``: those more than a standard deviation below their group's mean (normaliser ``standard``)."""
    step: int | None = None
    """Units that leave in a round (``global``); None: all at once."""
    step_share: float | None = None
    """Instead: as a share of the base model's units."""
    between: Finetune | None = None
    """After every round but the last."""


@dataclass(frozen=True)
class Layers:
    """Group after group in order of execution: choose, cut, refit the layers that read it, train."""

    scoring: Scoring
    refit: Literal["channel", "full"]
    """A factor for each channel that such a layer reads, or all its weights (least squares)."""
    target: Literal["current", "original"]
    """Whose outputs it is to give again: the network's before this cut, or the base model's. For the latter every
    reader is fitted again at each cut, from what the network as it stands makes it read."""
    images: int
    """Training images for the fit, at ten places each."""
    between: Finetune | None = None
    """After every group but the last."""


Phase = Sparsify | ZeroedTraining | Rounds | Layers | Finetune


@dataclass(frozen=True)
class Preset:
    """A paper's procedure."""

    name: str
    paper: str
    steps: str
    """What is done, in a sentence or two."""
    deviations: str
    """Where it differs from the paper."""
    phases: tuple[Phase, ...]
    trained_for: float | None = None
    """Epochs of the paper's base models, to which its lengths are in proportion; None: they stand for themselves."""

    @property
    def last_epochs(self) -> float:
        """Epochs of the last training, which ``--epochs`` sets."""
        trained = [phase.length.epochs for phase in self.phases if not isinstance(phase, Rounds | Layers)]
        return trained[-1]

    @property
    def takes_tables(self) -> bool:
        """Whether it is told how many units of each group leave; a ranking over all groups or a threshold finds out."""
        return not any(isinstance(phase, Rounds) and phase.scope != "uniform" for phase in self.phases)

    def content(self) -> dict[str, Any]:
        """As JSON: all that decides what is done."""
        return {"name": self.name, "trained_for": self.trained_for, "phases": [_content(each) for each in self.phases]}


def _content(phase: Phase) -> dict[str, Any]:
    return {"kind": type(phase).__name__, **asdict(phase)}
