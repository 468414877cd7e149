"""Composition of trials that are trained: what they need, and the rule that stops them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from autoprune.config.schema import FinetuneFidelity, RayExecutorConfig, SearchConfig
from autoprune.data.dataset import Dataset, Split
from autoprune.data.shared import sent_split
from autoprune.driver.halving import Halving
from autoprune.evaluators.assets import Assets, Finetuning
from autoprune.evaluators.evaluator import PruneEvaluator, make_evaluator
from autoprune.evaluators.finetune import make_finetuner
from autoprune.training.cached import is_small

__all__ = ["evaluator_maker", "finetuning", "make_halving", "sent_bytes", "trains"]


def finetuning(config: SearchConfig, dataset: Dataset, evaluation_digest: str) -> Finetuning | None:
    """What workers train candidates with; None where the search calibrates only."""
    if not isinstance(config.fidelity, FinetuneFidelity):
        return None
    recipe = config.fidelity.recipe(config.space.base.recipe, config.seed)
    sent = sent_split(dataset.train, "train", config.space.data, config.seed, sent_bytes(config))
    train = sent if isinstance(sent, Split) else Split(dataset.train.images[:0], dataset.train.labels[:0])
    return Finetuning(
        images=np.ascontiguousarray(train.images),
        labels=np.ascontiguousarray(train.labels),
        recipe=recipe,
        threads=1 if is_small(dataset, recipe) else _threads(config),
        key=evaluation_digest,
        shared=None if isinstance(sent, Split) else sent,
    )


def sent_bytes(config: SearchConfig) -> float:
    """Images over so many bytes do not go through an object store: each node reads them. In this process they stay."""
    executor = config.executor
    return 1e9 * executor.object_store_gb if isinstance(executor, RayExecutorConfig) else math.inf


def _threads(config: SearchConfig) -> int:
    """As many as a trial has processors, so that this process trains a candidate as a worker did."""
    if isinstance(config.executor, RayExecutorConfig):
        return max(1, math.floor(config.executor.training.cpus or config.executor.cpus_per_trial))
    return torch.get_num_threads()


def trains(config: SearchConfig) -> bool:
    """Whether a trial trains its candidate, and is given what trainings are given."""
    return isinstance(config.fidelity, FinetuneFidelity)


def evaluator_maker(config: SearchConfig) -> Callable[[Assets], PruneEvaluator]:
    """A function that a worker process can import by name."""
    return make_finetuner if trains(config) else make_evaluator


def make_halving(config: SearchConfig, images: int) -> Halving | None:
    """Successive halving by Ray's rule; None where no trial is stopped. Ray is imported on use.

    ``images``: the validation images of a trial.
    """
    fidelity = config.fidelity
    if not isinstance(fidelity, FinetuneFidelity) or not fidelity.stops:
        return None
    from autoprune.executors.ray_asha import AshaRule

    rule = AshaRule(fidelity.epochs, fidelity.grace_epochs, fidelity.reduction)
    return Halving(config.parsed_objectives(), rule, fidelity.epochs, images)
