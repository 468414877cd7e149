"""A training whose result is kept, and which goes on where it was cut: for base models and hypernetworks alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from autoprune.config.recipes import Recipe
from autoprune.data.dataset import Dataset
from autoprune.training.cache import TrainedCache
from autoprune.training.loop import EpochReport, Trainer
from autoprune.training.pace import Standing
from autoprune.training.threads import torch_threads

__all__ = ["is_small", "suited_threads", "train_cached"]

_SAVE_SECONDS = 20.0
_SMALL_BATCH = 1 << 16
"""Pixels times channels of a batch."""


def train_cached(
    cache: TrainedCache,
    key: str,
    make: Callable[[Callable[[], None]], Trainer],
    *,
    record: Mapping[str, Any],
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[Standing], None] | None = None,
) -> float:
    """Train what ``make(on_pause)`` gives, from where an earlier attempt was cut, and keep its model under ``key``.

    Progress is saved every 20 seconds; ``on_step`` hears every 50 steps where training stands. ``record`` is kept with
    the weights, with the last epoch's ``search_val_top1`` and the ``seconds`` beside it. Returns the seconds that
    earlier, cut attempts had spent.
    """
    started = saved = time.perf_counter()
    earlier = 0.0

    def pause() -> None:
        save_now_and_then()
        if on_step:
            on_step(trainer.standing())

    def save_now_and_then() -> None:
        nonlocal saved
        now = time.perf_counter()
        if now - saved > _SAVE_SECONDS:
            cache.save_progress(key, trainer, earlier + now - started)
            saved = time.perf_counter()

    trainer = make(pause)
    earlier = cache.load_progress(key, trainer)
    report = None
    with suited_threads(trainer.dataset, trainer.recipe):
        for report in trainer.run():
            if report.epoch < report.epochs:
                save_now_and_then()
            if on_epoch:
                on_epoch(report)
    results = {
        "search_val_top1": report.val_top1 if report else None,
        "seconds": earlier + time.perf_counter() - started,
        "torch": torch.__version__,
    }
    cache.save(key, trainer.model, {**record, **results})
    cache.discard_progress(key)
    return earlier


@contextmanager
def suited_threads(dataset: Dataset, recipe: Recipe) -> Iterator[None]:
    """One thread where a batch is so small that threads wait for each other longer than they compute.

    On the digits two threads are no faster on an idle machine and many times slower on a busy one.
    """
    with torch_threads(1 if is_small(dataset, recipe) else torch.get_num_threads()):
        yield


def is_small(dataset: Dataset, recipe: Recipe) -> bool:
    """One thread trains it as fast as several."""
    return recipe.batch_size * math.prod(dataset.image_shape) < _SMALL_BATCH
