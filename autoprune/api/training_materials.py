"""What trainings of candidates need of a search: its recipe, the materials of its runs, their threads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoprune.config.loading import load_search
from autoprune.config.schema import HypernetWeights, Recipe, SearchConfig
from autoprune.data.dataset import Split
from autoprune.data.shared import Part, SharedSplit, sent_split
from autoprune.driver.assemble import Prepared
from autoprune.driver.assemble_finetune import sent_bytes
from autoprune.errors import ConfigError
from autoprune.retraining.arms import Arm, parse_arm, require_start
from autoprune.retraining.runs import Materials, Run
from autoprune.retraining.weights import Origins

__all__ = ["materials", "recipe_of", "require_images", "usable_arm"]


def require_images(config: SearchConfig) -> None:
    """Raises ConfigError for a search that has no images to train on."""
    if config.space.model.kind == "module":
        raise ConfigError(
            f"search {config.name!r} was over a module in hand: there are no images to train its candidates on.",
            "Take a search from a launch file, which names model and data.",
        )


def usable_arm(text: str, config: SearchConfig) -> Arm:
    """An arm as ``parse_arm`` reads it. Raises ConfigError where the search has nothing for it to start from."""
    arm = parse_arm(text)
    hypernet = isinstance(config.evaluator.weights, HypernetWeights)
    initial = config.space.base.checkpoint is None
    require_start(arm.start, ranked=not hypernet, initial=initial, hypernet=hypernet)
    return arm


def recipe_of(config: SearchConfig, overrides: Sequence[str]) -> Recipe:
    """The baseline's recipe with the settings given."""
    if any(text.partition("=")[0].strip() == "seed" for text in overrides):
        raise ConfigError("the seed of a run is not a setting of the recipe.", "Say how many seeds with --seeds N.")
    return load_search(config, [f"space.base.recipe.{text}" for text in overrides]).space.base.recipe


def materials(prepared: Prepared, runs: Sequence[Run], *, sent: bool = False) -> Materials:
    """The search's base model, ranking and images, for workers that train ``runs``; ``sent``: to other processes."""
    config, limit = prepared.config, sent_bytes(prepared.config) if sent else math.inf
    assets, data, base = prepared.assets, prepared.dataset, prepared.config.space.base
    origins = Origins(
        model=assets.model,
        num_classes=assets.num_classes,
        in_channels=assets.in_channels,
        groups=assets.groups,
        state=assets.state,
        ranking=assets.ranking,
        initial_seed=base.recipe.seed if base.checkpoint is None else None,
        hypernet=assets.hypernet,
        reconstruction=assets.reconstruction,
        mean=assets.mean,
        std=assets.std,
    )

    def part(name: Part, split: Split) -> Split | SharedSplit:
        return sent_split(split, name, config.space.data, config.seed, limit)

    train, search_val = part("train", data.train), part("search_val", data.search_val)
    test = part("test", data.open_test())
    return Materials(origins, train, search_val, test, data.mean, data.std, tuple(runs))
