"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from autoprune.config.recipes import Recipe

__all__ = ["lr_at"]


def lr_at(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of ``step`` (from 0) out of ``steps``: linear warm-up, then cosine to 0, tenfold falls or none.

    >>> recipe = Recipe(lr=1.0, warmup=0.0)
    >>> [round(lr_at(recipe, step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    warm = round(recipe.warmup * steps)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "milestones":
        return recipe.lr * 0.1 ** sum(step >= milestone * steps for milestone in recipe.milestones)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
