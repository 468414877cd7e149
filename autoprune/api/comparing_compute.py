"""What came before the arms of a comparison, in training MACs: base model and hypernetwork."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoprune.config.evaluation import HypernetWeights
from autoprune.config.schema import Recipe
from autoprune.driver.assemble import Prepared
from autoprune.driver.assemble_hypernet import drawing
from autoprune.retraining.arms import training_macs
from autoprune.retraining.runs import images_per_epoch
from autoprune.space import Decoder
from autoprune.training.cache import read

__all__ = ["base_training_macs", "hypernet_training_macs"]

_SAMPLED_STEPS = 500


def base_training_macs(prepared: Prepared) -> float:
    """Of the base model, as its recipe describes it."""
    recipe, full = prepared.config.space.base.recipe, prepared.space.cost.baseline["macs"]
    return training_macs(full, images_per_epoch(len(prepared.dataset.train), recipe), recipe.epochs)


def hypernet_training_macs(prepared: Prepared) -> float | None:
    """Of the hypernetwork as its file says it was trained; None where the search has none.

    3 x (images x the mean MACs of the widths that its steps drew, looked up at up to 500 of them, and a step's products
    in the generators: hidden units, times the rank of each, x parameters at those widths). With the base model's own
    training where it started from that.
    """
    weights = prepared.config.evaluator.weights
    if prepared.hypernet is None or not isinstance(weights, HypernetWeights):
        return None
    settings = read(prepared.hypernet.path)[1]["settings"]
    recipe = Recipe.model_validate(settings["recipe"])
    images = images_per_epoch(len(prepared.dataset.train), recipe)
    steps = recipe.epochs * (images // min(recipe.batch_size, images))
    cost = _mean_cost(prepared, recipe.seed, steps)
    own = training_macs(cost["macs"], images, recipe.epochs)
    made = 3.0 * steps * settings["hidden"] * (settings["rank"] or 1) * cost["params"]
    return own + made + (base_training_macs(prepared) if settings["init"] == "base" else 0.0)


def _mean_cost(prepared: Prepared, seed: int, steps: int) -> Mapping[str, float]:
    """MACs and parameters of the networks that the steps trained."""
    draw = drawing(prepared.space, Decoder(prepared.space, ()))
    looked = np.unique(np.linspace(0, steps - 1, min(steps, _SAMPLED_STEPS)).round().astype(int))
    costs = [prepared.space.cost.measure(draw(seed, int(step))) for step in looked]
    return {name: float(np.mean([cost[name] for cost in costs])) for name in ("macs", "params")}
