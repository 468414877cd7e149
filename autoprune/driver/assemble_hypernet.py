"""Composition of the hypernetwork that makes the weights of a search's candidates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from autoprune.config.schema import HypernetWeights, SearchConfig
from autoprune.controllers.drawing import Aim, draw
from autoprune.data.dataset import Dataset
from autoprune.driver.training_shown import TrainingShown
from autoprune.hypernet.footprint import footprint, require_memory
from autoprune.hypernet.training import Draw, Task, TrainedHypernet, hypernet, hypernet_recipe, is_cached, require_file
from autoprune.protocols import Progress
from autoprune.space.decoding import Decoder
from autoprune.space.space import SearchSpace
from autoprune.training.base import BaseModel
from autoprune.types import Candidate

__all__ = ["check_hypernet", "drawing", "trained_hypernet"]


def check_hypernet(config: SearchConfig, space: SearchSpace, network: Callable[[], nn.Module]) -> None:
    """What can be said before the base model is trained. Raises ConfigError when the checkpoint does not exist, or when
    the machine has too little memory to train one."""
    weights = config.evaluator.weights
    if not isinstance(weights, HypernetWeights):
        return
    if weights.checkpoint is None:
        require_memory(footprint(network(), space.groups, weights), weights)
    else:
        require_file(Path(weights.checkpoint).expanduser())


def trained_hypernet(
    config: SearchConfig, space: SearchSpace, dataset: Dataset, base: BaseModel, progress: Progress
) -> TrainedHypernet | None:
    """Read, or trained now; None where the search needs none.

    It is trained over the whole space, not only within the search's budgets, so that searches under other budgets use
    the same one. Raises what :func:`autoprune.hypernet.training.hypernet` raises.
    """
    weights = config.evaluator.weights
    if not isinstance(weights, HypernetWeights):
        return None
    decoder = Decoder(space, ())
    task = Task(config.space, weights, space, dataset, base, drawing(space, decoder), _middle(space, decoder))
    training = weights.checkpoint is None and not is_cached(task)
    progress.phase("hypernet", hypernet_recipe(config.space, weights).epochs if training else None)
    if training:
        progress.note(f"the hypernetwork has {footprint(base.module, space.groups, weights)}")

    shown = TrainingShown(progress, "half of the MACs: ")
    return hypernet(task, on_epoch=shown.on_epoch, on_step=shown.on_step)


def drawing(space: SearchSpace, decoder: Decoder) -> Draw:
    """As random search draws: proportions, and the share of the reachable MACs, each uniform."""
    aim = Aim(decoder, ())
    return lambda seed, step: draw(space, aim, np.random.default_rng((seed, step)))


def _middle(space: SearchSpace, decoder: Decoder) -> Candidate:
    """Equal keep_ratios at half of the MACs, or as near as the space allows."""
    return decoder.decode_to(space.uniform(0.7), "macs", 0.5 * space.cost.baseline["macs"])
