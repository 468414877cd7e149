"""The evaluator: slice, calibrate, score. Built once a worker and reused for every candidate."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.evaluators.assets import Assets, base_module, shared_tensor
from autoprune.evaluators.hypernet import HypernetSource
from autoprune.evaluators.inherit import InheritSource
from autoprune.evaluators.networks import Network, Networks
from autoprune.evaluators.reconstructing import ReconstructingSource, timed_build
from autoprune.protocols import WeightSource
from autoprune.pruning.reconstruction import Material
from autoprune.training.scoring import normalise
from autoprune.types import Candidate, Measurement

__all__ = ["PruneEvaluator", "make_evaluator"]


class PruneEvaluator:
    """Metrics ``top1`` (fraction in [0, 1]) and ``loss`` (mean cross-entropy, nats) on the search-val images.

    BatchNorm statistics are averaged over batches of ``config.batch_size`` calibration images, and an estimate is
    reported after as many validation images; how many go through a layer at once is chosen for speed.
    """

    def __init__(self, assets: Assets) -> None:
        base = base_module(assets).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._base, self._assets = base, assets
        self._source = _source(base, assets)
        self._inherits = assets.hypernet is None
        self._groups = assets.groups
        self._calibration = shared_tensor(assets.calibration_images)
        self._images = shared_tensor(assets.images)
        self._labels = shared_tensor(assets.labels)
        self._mean, self._std = assets.mean, assets.std
        self._batch = assets.config.batch_size
        half = Candidate({group.name: -(-group.units // 2) * group.unit for group in assets.groups})
        first = self._normalised(self._images[: self._batch])
        self.networks = Networks(base, lambda: self._source.build(half), first, self._labels, self._batch)

    def variant(
        self, ranking: Mapping[str, np.ndarray] | None = None, reconstruction: Material | None = None
    ) -> PruneEvaluator:
        """The same base model, images and checked programs; another ranking (None: this one's) or reconstruction
        (None: none). For comparing many of them in one process, where weights are inherited.
        """
        other = copy.copy(self)
        changed = {"reconstruction": reconstruction, **({} if ranking is None else {"ranking": ranking})}
        other._assets = replace(self._assets, **changed)  # type: ignore[arg-type]
        other._source = _source(self._base, other._assets)
        return other

    def materialise(self, candidate: Candidate) -> nn.Module:
        """The pruned model with its starting weights and calibrated BatchNorm, in eval mode."""
        model = self._source.build(candidate)
        with torch.no_grad():
            self.networks.network(model).calibrate(self._calibration_batches(candidate))
        return model.eval()

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        started = time.perf_counter()
        with torch.inference_mode():
            model, timings = timed_build(self._source, candidate)
            network = self.networks.network(model)
            built = time.perf_counter()
            network.calibrate(self._calibration_batches(candidate))
            network.fold()
            timings["calibrate"] = time.perf_counter() - built
            yield from self._score(network, started, timings)

    def _score(self, network: Network, started: float, timings: dict[str, float]) -> Iterator[Measurement]:
        total = len(self._labels)
        begun = time.perf_counter()
        correct = loss = torch.zeros((), dtype=torch.float64)
        seen = 0
        for images, labels in zip(self._batches(self._images), self._labels.split(self._batch), strict=True):
            logits = network(images).float()
            correct = correct + (logits.argmax(1) == labels).sum()
            # NaN or infinite logits leave a loss that is not finite, and argmax of NaN would still count as an answer.
            loss = loss + functional.cross_entropy(logits, labels, reduction="sum").double()
            seen += len(labels)
            if seen == total:
                timings = {**timings, "evaluate": time.perf_counter() - begun}
            yield self._measurement(correct, loss, seen, started, timings, final=seen == total)

    def _measurement(
        self, correct: Tensor, loss: Tensor, seen: int, started: float, timings: dict[str, float], *, final: bool
    ) -> Measurement:
        mean_loss = float(loss) / seen
        top1 = float(correct) / seen if math.isfinite(mean_loss) else math.nan
        elapsed = time.perf_counter() - started
        return Measurement({"top1": top1, "loss": mean_loss}, seen, elapsed, final, timings)

    def _calibration_batches(self, candidate: Candidate) -> Iterator[Tensor]:
        calibrated = isinstance(self._source, ReconstructingSource) and self._source.calibrates
        return iter(()) if calibrated or self._is_untouched(candidate) else self._batches(self._calibration)

    def _is_untouched(self, candidate: Candidate) -> bool:
        """Full width where weights are inherited: the base model's own statistics are right for it, and it stays what
        the user trained.
        """
        full = all(candidate.widths.get(group.name, group.channels) == group.channels for group in self._groups)
        return full and self._inherits

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        for batch in images.split(self._batch) if len(images) else ():  # split gives an empty tensor one empty part
            yield self._normalised(batch)

    def _normalised(self, images: Tensor) -> Tensor:
        return normalise(images, self._mean, self._std)


def _source(base: nn.Module, assets: Assets) -> WeightSource:
    if assets.hypernet is None:
        return _inheriting(base, assets)
    state = {name: shared_tensor(array) for name, array in assets.hypernet.items()}
    return HypernetSource(base, assets.groups, state)


def _inheriting(base: nn.Module, assets: Assets) -> WeightSource:
    material = assets.reconstruction
    if material is None:
        return InheritSource(base, assets.groups, assets.ranking)
    images = None if material.images is None else shared_tensor(material.images)
    shown = None if images is None else normalise(images, assets.mean, assets.std)
    return ReconstructingSource(base, assets.groups, assets.ranking, material, shown)


def make_evaluator(assets: Assets) -> PruneEvaluator:
    """For executors: a function that a worker process can import by name."""
    return PruneEvaluator(assets)
