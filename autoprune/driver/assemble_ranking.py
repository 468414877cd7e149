"""Composition of the scores of channels: by the weights alone, or with training images that go through the base model.

Scores that read images are kept in the cache: computed on another day, with other threads, they could differ in the
last bits, and an export would then hold other channels than the trial did.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.config.schema import InheritWeights, SearchConfig
from autoprune.data.cache import cache_dir
from autoprune.data.dataset import Dataset, Split
from autoprune.files import Damaged, read_sealed, sealing, set_aside
from autoprune.protocols import Criterion, Progress
from autoprune.pruning import criteria
from autoprune.pruning.ranking import Scores, scores
from autoprune.pruning.statistics import collect
from autoprune.space.space import SearchSpace
from autoprune.training.base import BaseModel, model_identity
from autoprune.training.scoring import normalise
from autoprune.types import ChannelGroup

__all__ = ["channel_scores", "check_criterion", "labelled_batches", "make_criterion", "note_scores"]

_VERSION = 1
"""Raised whenever a change of the code would give other scores."""
_PIXELS = 100 * 32 * 32
"""Of one batch: what a backward pass keeps grows with them."""


def make_criterion(config: SearchConfig) -> tuple[Criterion, Criterion | None]:
    """The criterion, and the one for groups that it says nothing about. Raises ConfigError for a hypernetwork."""
    chosen, seed = config.evaluator.criterion, config.seed
    made = criteria.get(chosen.name, seed, **chosen.options())
    return made, None if chosen.substitute is None else criteria.get(chosen.substitute, seed)


def check_criterion(config: SearchConfig, space: SearchSpace, network: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    """What can be said before the base model is trained: a criterion without a fallback that is undefined for a group.

    It is tried on random weights and two images of noise. Raises ConfigError that names the group.
    """
    if not isinstance(config.evaluator.weights, InheritWeights):
        return
    criterion, fallback = make_criterion(config)
    if fallback is not None:
        return
    model, image = network()
    images = torch.randn((2, *image.shape[1:]), generator=torch.Generator().manual_seed(0))
    known = collect(model, space.groups, criterion.needs, [(images, torch.zeros(2, dtype=torch.int64))])
    scores(model, space.groups, criterion, known)


def channel_scores(config: SearchConfig, dataset: Dataset, base: BaseModel, space: SearchSpace) -> Scores:
    """Of all groups of the space. Raises ConfigError for activations that are not finite, naming the layer."""
    criterion, fallback = make_criterion(config)
    if not criterion.needs:
        return scores(base.module, space.groups, criterion, fallback=fallback)
    path = cache_dir("scores") / f"{_key(config, dataset, base, space)}.npz"
    found = _read(path, space.groups)
    if found is None:
        weights = config.evaluator.weights
        assert isinstance(weights, InheritWeights)
        batches = labelled_batches(dataset, dataset.train.take(weights.criterion_images, config.seed))
        known = collect(base.module, space.groups, criterion.needs, batches, seed=config.seed)
        found = scores(base.module, space.groups, criterion, known, fallback=fallback)
        _write(path, found)
    return found


def note_scores(config: SearchConfig, score: Callable[[], Scores | None], progress: Progress) -> None:
    """Score the channels now, and say which groups another criterion ranks, and why."""
    if make_criterion(config)[0].needs:
        progress.phase("scores")
    found = score()
    for name, reason in ({} if found is None else found.replaced).items():
        progress.note(f"group {name}: {reason}")


def labelled_batches(dataset: Dataset, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images (rows, C, H, W) float32 and labels (rows,), in batches of a size that suits the images'."""
    size = max(1, _PIXELS // math.prod(dataset.image_shape[1:]))
    for start in range(0, len(split), size):
        part = slice(start, start + size)
        yield normalise(torch.tensor(split.images[part]), dataset.mean, dataset.std), torch.tensor(split.labels[part])


def _key(config: SearchConfig, dataset: Dataset, base: BaseModel, space: SearchSpace) -> str:
    weights = config.evaluator.weights
    assert isinstance(weights, InheritWeights)
    content = {
        **model_identity(config.space, dataset),
        "version": _VERSION,
        "base": base.digest,
        "ranking": weights.ranking,
        "seed": config.seed,
        "groups": [(group.name, group.channels, group.unit) for group in space.groups],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _write(path: Path, found: Scores) -> None:
    arrays = {f"score {name}": each for name, each in found.values.items()}
    with sealing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, replaced=np.array(json.dumps(dict(found.replaced))), **arrays)  # type: ignore[arg-type]


def _read(path: Path, groups: Sequence[ChannelGroup]) -> Scores | None:
    """None where there is no file; one that is damaged is warned of and set aside."""
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(read_sealed(path)), allow_pickle=False) as content:
            values = {group.name: content[f"score {group.name}"] for group in groups}
            replaced: Mapping[str, str] = json.loads(str(content["replaced"]))
        return Scores(values, replaced)
    except (Damaged, OSError, ValueError, KeyError) as error:
        set_aside(path, "the file of scores", error, "They are computed again.")
    return None
