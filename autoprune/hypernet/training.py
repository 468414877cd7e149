"""Training a PruningNet: once for a search space, kept in the cache, whatever the budgets and controllers after it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autoprune.config.evaluation import HypernetWeights
from autoprune.config.schema import Recipe, SpaceConfig
from autoprune.data.dataset import Dataset
from autoprune.errors import ConfigError
from autoprune.hypernet.network import PruningNet
from autoprune.hypernet.ordering import ordered
from autoprune.models.checkpoint import state_digest
from autoprune.pruning.calibration import calibrate
from autoprune.pruning.criteria import get as get_criterion
from autoprune.pruning.ranking import rank
from autoprune.space.space import SearchSpace
from autoprune.training.base import BaseModel, fresh_model, model_identity
from autoprune.training.cache import TrainedCache, read
from autoprune.training.cached import train_cached
from autoprune.training.loop import EpochReport, Trainer, sgd
from autoprune.training.pace import Standing
from autoprune.training.scoring import normalise, score
from autoprune.types import Candidate

__all__ = [
    "HYPERNET_CACHE",
    "Draw",
    "HypernetTrainer",
    "Task",
    "TrainedHypernet",
    "hypernet",
    "hypernet_recipe",
    "is_cached",
]

_VERSION = 1
"""Raised whenever a change of the code would train other weights from the same configuration."""
_VARYING = 0.01
"""Share of the variance of a generated weight that depends on the widths at first, where all is random."""
_CALIBRATION_IMAGES = 1000
_VAL_BATCH = 250
HYPERNET_CACHE = TrainedCache("hypernet", "hypernetwork")

Draw = Callable[[int, int], Candidate]
"""(seed, step) -> the widths of that training step."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a hypernetwork is trained for and on."""

    config: SpaceConfig
    weights: HypernetWeights
    space: SearchSpace
    dataset: Dataset
    base: BaseModel
    draw: Draw
    middle: Candidate
    """Scored after each epoch."""


@dataclass(frozen=True, eq=False)
class TrainedHypernet:
    """A trained hypernetwork, on the CPU."""

    network: PruningNet
    digest: str
    """Of its weights."""
    path: Path
    trained: bool
    """This call trained it; False: it came from a checkpoint or the cache."""
    seconds: float
    """What it took: the training, including earlier parts of one that was cut, or the loading."""


class HypernetTrainer(Trainer):
    """Other widths in every step; each is a function of (seed, step)."""

    recipe_key = "evaluator.weights.recipe"
    compiles = False
    model: PruningNet

    def __init__(self, network: PruningNet, task: Task, *, on_pause: Callable[[], None] | None = None) -> None:
        self._task = task
        super().__init__(network, task.dataset, hypernet_recipe(task.config, task.weights), on_pause=on_pause)

    def _before(self, step: int) -> None:
        self.model.widths = self._task.draw(self.recipe.seed, step)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        # generators have many more weights than they multiply: an update in one pass over memory is worth a tenth
        return sgd(self.model, self.recipe, fused=True)

    def _validate(self) -> float:
        """Of one candidate in the middle of the space, measured as a trial is."""
        data = self.dataset
        images = data.train.take(_CALIBRATION_IMAGES, self.recipe.seed).images
        module = self.model.build(self._task.middle)
        batches = torch.tensor(images, device=self.device).split(_VAL_BATCH)
        calibrate(module, (normalise(batch, data.mean, data.std) for batch in batches))
        metrics = score(module, data.search_val, mean=data.mean, std=data.std, batch_size=_VAL_BATCH)
        self._check(metrics["loss"])
        return metrics["top1"]


def hypernet_recipe(config: SpaceConfig, weights: HypernetWeights) -> Recipe:
    """The base model's recipe, a quarter of its epochs (Liu et al. 2019, section 4.1), with the settings given."""
    base = config.base.recipe
    given = {name: value for name, value in weights.recipe.model_dump().items() if value is not None}
    return base.model_copy(update={"epochs": max(1, round(base.epochs / 4)), **given})


def hypernet(
    task: Task,
    *,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[Standing], None] | None = None,
) -> TrainedHypernet:
    """Read ``weights.checkpoint`` if it is set, else the cached hypernetwork for this space, else train it.

    A training that was killed goes on from where it last was saved. Raises ConfigError when a checkpoint is damaged or
    belongs to another space, SearchAborted when training diverges. A damaged cache file is warned of and replaced.
    """
    started = time.perf_counter()
    spent, trained = 0.0, False
    if task.weights.checkpoint is not None:
        path = Path(task.weights.checkpoint).expanduser()
        network = _from_checkpoint(task, path)
    else:
        key = hypernet_key(task)
        path = HYPERNET_CACHE.path(key)
        cached = HYPERNET_CACHE.load(key)
        if cached is None:
            spent = _train(key, task, on_epoch, on_step)
            trained, cached = True, HYPERNET_CACHE.load(key)
        if cached is None:
            raise ConfigError(f"the hypernetwork {key} was trained, but cannot be read back from the cache.")
        network = PruningNet.from_state(task.base.module, task.space.groups, cached[0])
    seconds = spent + time.perf_counter() - started
    return TrainedHypernet(network.eval(), state_digest(network.state_dict()), path, trained, seconds)


def is_cached(task: Task) -> bool:
    """Whether the cache has a file for it (which may turn out to be damaged)."""
    return HYPERNET_CACHE.path(hypernet_key(task)).is_file()


def hypernet_key(task: Task) -> str:
    """Identity of a training: architecture, images, widths, settings, and the base model where it starts from that."""
    content: dict[str, Any] = {
        **model_identity(task.config, task.dataset),
        "version": _VERSION,
        "widths": _widths(task.space),
        "settings": _settings(task),
        "base": task.base.digest if task.weights.init == "base" else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def untrained(task: Task) -> PruningNet:
    """The network as its training begins: a function of the settings, and of the base model if it starts from that."""
    groups, weights = task.space.groups, task.weights
    recipe = hypernet_recipe(task.config, weights)
    if weights.init == "base":
        criterion = get_criterion("group_l2", seed=recipe.seed)
        start = ordered(task.base.module, groups, rank(task.base.module, groups, criterion))
    else:
        start = fresh_model(task.config, task.dataset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        varying = 0.0 if weights.init == "base" else _VARYING
        return PruningNet(start, groups, hidden=weights.hidden, rank=weights.rank, varying=varying)


def _train(
    key: str,
    task: Task,
    on_epoch: Callable[[EpochReport], None] | None,
    on_step: Callable[[Standing], None] | None,
) -> float:
    record = {
        "model": task.config.model.model_dump(mode="json"),
        "data": task.dataset.name,
        "groups": {group.name: group.channels for group in task.space.groups},
        "settings": _settings(task),
    }
    return train_cached(
        HYPERNET_CACHE,
        key,
        lambda on_pause: HypernetTrainer(untrained(task), task, on_pause=on_pause),
        record=record,
        on_epoch=on_epoch,
        on_step=on_step,
    )


def _settings(task: Task) -> dict[str, Any]:
    """What decides the weights beside the data: with the recipe that nulls stand for."""
    return {
        **task.weights.model_dump(mode="json", include={"hidden", "rank", "init"}),
        "recipe": hypernet_recipe(task.config, task.weights).model_dump(mode="json"),
    }


def _widths(space: SearchSpace) -> dict[str, list[int]]:
    return {dimension.name: list(dimension.allowed) for dimension in space.dimensions}


def require_file(path: Path) -> None:
    """Raises ConfigError when a checkpoint does not exist."""
    if not path.is_file():
        raise ConfigError(f"hypernetwork {path} does not exist.", "'autoprune prepare' says where it wrote one.")


def _from_checkpoint(task: Task, path: Path) -> PruningNet:
    require_file(path)
    try:
        state, record = read(path)
    except ConfigError as error:
        raise ConfigError(f"hypernetwork {path} is damaged, or no hypernetwork: {error.message}.") from None
    groups = {group.name: group.channels for group in task.space.groups}
    if "groups" not in record:
        raise ConfigError(f"{path} is no hypernetwork.", "'autoprune prepare' says where it wrote one.")
    if record["groups"] != groups:
        raise ConfigError(
            f"hypernetwork {path} belongs to another space: {_difference(record['groups'], groups)}.",
            "Train one for this space with 'autoprune prepare', without weights.checkpoint.",
        )
    try:
        return PruningNet.from_state(task.base.module, task.space.groups, state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"hypernetwork {path} does not fit the model: {reason}") from None


def _difference(theirs: dict[str, int], ours: dict[str, int]) -> str:
    """The first group that differs."""
    for name in dict.fromkeys([*ours, *theirs]):
        if theirs.get(name) != ours.get(name):
            here, there = (f"{side[name]} channels" if name in side else "no channels" for side in (ours, theirs))
            return f"for group {name!r} this space has {here}, the file has {there}"
    return "its groups stand in another order"
