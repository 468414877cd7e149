"""``fidelity:`` in a launch file: how much work a trial is worth, and which trials are cut short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from autoprune.config.recipes import Recipe
from autoprune.config.strict import Strict

__all__ = ["CalibrateFidelity", "FidelityConfig", "FinetuneFidelity", "RacingConfig", "check_stopping", "named"]

_KNOWN_COSTS = ("macs", "flops", "params", "keep_ratio", "weight_bytes", "peak_activation_bytes")
"""Functions of the widths alone."""


class CalibrateFidelity(Strict):
    """A trial re-estimates BatchNorm and is scored: seconds a candidate."""

    kind: Literal["calibrate"] = "calibrate"


class FinetuneFidelity(Strict):
    """A trial is trained for some epochs after that and scored after each of them.

    What is not said here (momentum, weight decay, label smoothing, augmentation...) is as in ``space.base.recipe``.
    """

    kind: Literal["finetune"] = "finetune"
    epochs: int = Field(4, ge=1)
    lr: float = Field(0.01, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    """``cosine``: from ``lr`` to 0 over all epochs."""
    batch_size: int | None = Field(None, ge=1)
    """Null: that of ``space.base.recipe``."""
    asha: bool = True
    """Stop trials that are behind others after as many epochs (Li et al. 2020, by Ray's own rule)."""
    grace_epochs: int = Field(1, ge=1)
    """Epochs that every trial gets: the first rung."""
    reduction: float = Field(3.0, gt=1)
    """Eta: about one in so many goes on from a rung to the next, which is so many times as many epochs away."""

    @model_validator(mode="after")
    def _rungs_before_the_end(self) -> FinetuneFidelity:
        if self.grace_epochs > self.epochs:
            raise ValueError(
                f"grace_epochs is {self.grace_epochs}, more than epochs ({self.epochs}): "
                f"a trial would end before its first rung; lower grace_epochs or raise epochs"
            )
        return self

    @property
    def stops(self) -> bool:
        """Whether there is a rung before the last epoch."""
        return self.asha and self.grace_epochs < self.epochs

    def measured(self) -> dict[str, Any]:
        """What decides the numbers of a trial that is not stopped."""
        return self.model_dump(mode="json", exclude={"asha", "grace_epochs", "reduction"})

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """How a trial is trained: the same order of the same images for every candidate of a search."""
        return base.model_copy(
            update={
                "epochs": self.epochs,
                "lr": self.lr,
                "schedule": self.schedule,
                "batch_size": self.batch_size or base.batch_size,
                "warmup": 0.0,
                "compile": False,  # every candidate is another network
                "seed": seed,
            }
        )


class RacingConfig(Strict):
    """Stop a trial once the validation images seen so far show that it cannot reach the current front."""

    confidence: float = Field(0.99, ge=0.5, lt=1)
    """A trial that would have reached the front is stopped with probability ``1 - confidence`` at most."""
    min_images: int = Field(200, ge=1)
    """Validation images that every trial is scored on."""


def named(value: Any) -> Any:
    """``calibrate`` and ``finetune`` need no mapping, and settings need no kind: only fine-tuning has any.

    >>> named("finetune"), named({"epochs": 2})
    ({'kind': 'finetune'}, {'kind': 'finetune', 'epochs': 2})
    """
    if isinstance(value, str):
        return {"kind": value}
    return {"kind": "finetune", **value} if isinstance(value, dict) else value


FidelityConfig = Annotated[CalibrateFidelity | FinetuneFidelity, Field(discriminator="kind"), BeforeValidator(named)]


def check_stopping(
    fidelity: CalibrateFidelity | FinetuneFidelity,
    racing: RacingConfig | None,
    objectives: Sequence[str],
    *,
    latency: bool,
) -> None:
    """Raises ValueError where trials would be stopped by two rules at once, or by a rule that does not fit the
    objectives; ``latency``: it is known beforehand."""
    tuned = isinstance(fidelity, FinetuneFidelity)
    if racing is not None and tuned:
        raise ValueError(
            "racing and 'fidelity: finetune' exclude each other: the one counts validation images, the other epochs; "
            "leave racing out, fidelity.asha stops trials"
        )
    if racing is None and not (isinstance(fidelity, FinetuneFidelity) and fidelity.stops):
        return
    rest = [text for text in objectives if text.split() != ["top1", "max"]]
    known = (*_KNOWN_COSTS, "latency_ms") if latency else _KNOWN_COSTS
    measured = [text for text in rest if text.split()[0] not in known]
    if measured or len(rest) == len(objectives):
        what, hint = ("fidelity.asha", "; set fidelity.asha to false") if tuned else ("racing", "")
        raise ValueError(
            f"{what} needs the objective 'top1 max', and beside it none but costs that are known beforehand "
            f"({', '.join(known)}), got {', '.join(objectives)}{hint}"
        )
