"""The evaluator that trains: slice, calibrate, then epochs of short fine-tuning, each of them scored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn

from autoprune.data.dataset import Dataset, Split
from autoprune.errors import ConfigError, SearchAborted
from autoprune.evaluators.assets import Assets, Finetuning
from autoprune.evaluators.evaluator import PruneEvaluator
from autoprune.training.cache import TrainedCache
from autoprune.training.loop import Trainer
from autoprune.training.scoring import score
from autoprune.training.threads import torch_threads
from autoprune.types import Candidate, Measurement

__all__ = ["FINETUNED", "FinetuneEvaluator", "make_finetuner"]

FINETUNED = TrainedCache("finetuned", "fine-tuned candidate")
"""Candidates that were trained once more after the search, for the test split or an export."""
_BATCH = 500


class FinetuneEvaluator(PruneEvaluator):
    """One measurement an epoch, ``step`` counts them. Metrics, all of search-val: ``top1`` and ``loss`` after the
    epoch, ``top1_calibrated`` before the first, and ``top1_epoch<n>`` of every epoch but the last.

    The training of a candidate depends on its widths, the recipe and its seed alone, so the trained weights need not be
    kept: ``materialise`` makes them again, equal to the bit on the same kind of machine. The full width is not trained
    where weights are inherited: the baseline stays the model that the user trained.
    """

    def __init__(self, assets: Assets) -> None:
        super().__init__(assets)
        if assets.finetuning is None:
            raise ConfigError("there are no images to fine-tune candidates on.", "Set fidelity.kind to calibrate.")
        self._given: Finetuning = assets.finetuning
        self._scored_on = Split(assets.images, assets.labels)
        names = tuple(map(str, range(assets.num_classes)))
        self._dataset = Dataset(
            self._given.split(),
            self._scored_on,
            assets.num_classes,
            names,
            assets.mean,
            assets.std,
            read_test=_no_test,
        )

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        if self._is_untouched(candidate):
            *_, last = super().evaluate(candidate)
            yield Measurement(
                {**last.metrics, "top1_calibrated": last.metrics["top1"]}, 0, last.seconds, True, last.timings
            )
            return
        yield from self._evaluate(candidate)

    def _evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        started = time.perf_counter()
        model = self._calibrated(candidate)
        calibrated = time.perf_counter()
        known = {"top1_calibrated": self.score(model)["top1"]}
        trainer = _Trainer(model, self._dataset, self._given, self.score)
        scored = time.perf_counter() - calibrated
        for epoch in range(1, trainer.recipe.epochs + 1):
            diverged = not trainer.train_to(epoch)
            seconds = time.perf_counter() - started
            evaluating = scored + trainer.scoring_seconds
            timings = {
                "calibrate": calibrated - started,
                "train": seconds - (calibrated - started) - evaluating,
                "evaluate": evaluating,
            }
            final = diverged or epoch == trainer.recipe.epochs
            if not final:
                known[f"top1_epoch{epoch}"] = trainer.metrics["top1"]
            yield Measurement({**known, **trainer.metrics}, epoch, seconds, final, timings)
            if final:
                return

    def materialise(self, candidate: Candidate, epochs: int | None = None) -> nn.Module:
        """The pruned model as it was after so many epochs (None: all), in eval mode on the CPU: trained again, or read
        from the cache. Raises SearchAborted when training diverges, which it did not when it was measured.
        """
        wanted = self._given.recipe.epochs if epochs is None else epochs
        model = self._calibrated(candidate)
        if not self._is_untouched(candidate) and wanted > 0:
            key = f"{self._given.key}-{candidate.digest}-{wanted}"
            cached = FINETUNED.load(key)
            if cached is None:
                model = self._trained(model, wanted)
                FINETUNED.save(key, model, {"widths": dict(candidate.widths), "epochs": wanted})
            else:
                model.load_state_dict(cached[0])
        return model.requires_grad_(False).eval()

    def score(self, model: nn.Module) -> dict[str, float]:
        """``top1`` and ``loss`` on the search-val images, run as trials are; NaN when a logit is not finite."""
        run = None
        if next(model.parameters()).device.type == "cpu":
            run = self.networks.network(model)
            with torch.no_grad():
                run.fold()
        return score(model, self._scored_on, mean=self._mean, std=self._std, batch_size=_BATCH, run=run)

    def _calibrated(self, candidate: Candidate) -> nn.Module:
        with torch_threads(self._given.threads):
            return super().materialise(candidate)

    def _trained(self, model: nn.Module, epochs: int) -> nn.Module:
        trainer = _Trainer(model, self._dataset, self._given, self.score)
        if not trainer.train_to(epochs):
            raise SearchAborted(
                f"fine-tuning diverges in epoch {trainer.epoch + 1}, which it did not in the search.",
                "Export it on the machine that measured it, or train it to its end: --retrain finetune_rewind.",
            )
        return trainer.model.cpu()


class _Trainer(Trainer):
    """Trains some epochs at a time and keeps the metrics of the last."""

    recipe_key = "fidelity"
    compiles = False

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        given: Finetuning,
        scored: Callable[[nn.Module], dict[str, float]],
    ) -> None:
        super().__init__(model.requires_grad_(True), dataset, given.recipe)
        self._scored, self._threads = scored, given.threads
        self._reports = self.run()
        self.metrics: Mapping[str, float] = {}
        self.scoring_seconds = 0.0

    def train_to(self, epoch: int) -> bool:
        """Train until so many epochs are done; False when it diverges, and the metrics are then NaN."""
        try:
            with torch_threads(self._threads):
                while self.epoch < epoch:
                    next(self._reports)
        except SearchAborted:
            self.metrics = {"top1": math.nan, "loss": math.nan}
            return False
        return True

    def _validate(self) -> float:
        began = time.perf_counter()
        self.metrics = self._scored(self.model)
        self.scoring_seconds += time.perf_counter() - began
        self._check(self.metrics["loss"])
        return self.metrics["top1"]


def _no_test() -> Split:
    raise ConfigError("a search never opens the test images.", "This is a defect of autoprune.")


def make_finetuner(assets: Assets) -> FinetuneEvaluator:
    """For executors: a function that a worker process can import by name."""
    return FinetuneEvaluator(assets)
