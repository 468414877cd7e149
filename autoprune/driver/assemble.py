"""The composition root: the only place that turns configuration into concrete objects and names their classes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from autoprune.config.schema import RayExecutorConfig, SearchConfig, SpaceConfig
from autoprune.controllers import registry as controllers
from autoprune.data import sources
from autoprune.data.dataset import Dataset, Split
from autoprune.data.shapes import shape_and_classes
from autoprune.driver.assemble_finetune import evaluator_maker, finetuning, trains
from autoprune.driver.assemble_hypernet import check_hypernet, trained_hypernet
from autoprune.driver.assemble_latency import with_latency
from autoprune.driver.assemble_memory import with_memory
from autoprune.driver.assemble_ranking import channel_scores, check_criterion, note_scores
from autoprune.driver.assemble_reconstruction import reconstruction_material, unreconstructed
from autoprune.driver.training_shown import TrainingShown
from autoprune.errors import SearchAborted
from autoprune.evaluators.assets import Assets
from autoprune.evaluators.evaluator import PruneEvaluator
from autoprune.evaluators.finetune import FinetuneEvaluator
from autoprune.hypernet.training import TrainedHypernet
from autoprune.latency.predictor import LatencyModel
from autoprune.models import registry
from autoprune.models.shipped_file import make_with_file, shipped_file
from autoprune.pruning.ranking import Scores, order
from autoprune.space.decoding import Decoder
from autoprune.space.space import SearchSpace
from autoprune.training.base import BaseModel, base_model
from autoprune.training.scoring import score
from autoprune.types import Candidate

if TYPE_CHECKING:
    from autoprune.driver.assemble_module import PreparedModule
    from autoprune.protocols import Controller, Executor, Progress

__all__ = ["Prepared", "make_controller", "make_executor", "make_space", "prepare", "with_model_file"]

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """Everything of a search that does not change while it runs."""

    config: SearchConfig
    dataset: Dataset
    base: BaseModel
    space: SearchSpace
    decoder: Decoder
    hypernet: TrainedHypernet | None = None
    """Where candidates get their weights from; None: they inherit those of the base."""

    @property
    def evaluation_digest(self) -> str:
        """Of the evaluation settings, and of what paths do not tell: base weights, images, the latency table if any."""
        images = f"{self.dataset.train.digest} {self.dataset.search_val.digest}"
        latency = "".join(f" {item.digest}" for item in self.space.cost.extras if isinstance(item, LatencyModel))
        made = "" if self.hypernet is None else f" {self.hypernet.digest}"
        text = f"{self.config.evaluation_digest()} {self.base.digest} {images}{latency}{made}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def assets(self) -> Assets:
        """What workers are built from. The ranking depends on the checkpoint only, so it is computed once, here."""
        evaluation = self.config.evaluator
        search_val, train = self.dataset.search_val, self.dataset.train
        scored = search_val.take(evaluation.validation_images, self.config.seed)
        calibration = train.take(evaluation.calibration_images, self.config.seed)
        return Assets(
            model=self.config.space.model,
            num_classes=self.dataset.num_classes,
            in_channels=self.dataset.image_shape[0],
            state=_arrays(self.base.module),
            groups=self.space.groups,
            ranking={} if self.scores is None else order(self.scores.values),
            calibration_images=np.ascontiguousarray(calibration.images),
            images=np.ascontiguousarray(scored.images),
            labels=np.ascontiguousarray(scored.labels),
            mean=self.dataset.mean,
            std=self.dataset.std,
            config=evaluation,
            hypernet=None if self.hypernet is None else _arrays(self.hypernet.network),
            reconstruction=reconstruction_material(self.config, self.dataset, self.base, self.space),
            finetuning=finetuning(self.config, self.dataset, self.evaluation_digest),
        )

    @cached_property
    def scores(self) -> Scores | None:
        """Of the channels, by the configured criterion; None where a hypernetwork makes the weights."""
        return None if self.hypernet else channel_scores(self.config, self.dataset, self.base, self.space)

    @property
    def remarks(self) -> dict[str, object]:
        """What every trial's note says: which groups another criterion than the configured one ranks, which layers are
        not reconstructed though others are, and why."""
        ranked = {"ranked_otherwise": dict(self.scores.replaced)} if self.scores and self.scores.replaced else {}
        kept = unreconstructed(self.config, self.base, self.space)
        return {**ranked, **({"not_reconstructed": kept} if kept else {})}

    @cached_property
    def evaluator(self) -> PruneEvaluator:
        """An evaluator in this process, for the baseline, the report and exports."""
        return evaluator_maker(self.config)(self.assets)

    def score_on(self, candidates: Sequence[Candidate], split: Split) -> Iterator[dict[str, float]]:
        """``top1`` and ``loss`` of each candidate on another split, in their order: run as trials are, with the same
        BatchNorm statistics.

        One thread a candidate: threads that share one small network wait for each other more than they compute.
        Candidates that were fine-tuned are trained again, one after another: torch has one generator for all threads.
        """
        workers = torch.get_num_threads()
        evaluator, mean, std = self.evaluator, self.dataset.mean, self.dataset.std
        batch = self.config.evaluator.batch_size

        def measured(candidate: Candidate) -> dict[str, float]:
            model = evaluator.materialise(candidate)
            network = evaluator.networks.network(model)
            network.fold()
            return score(model, split, mean=mean, std=std, batch_size=batch, run=network)

        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(workers) as pool:
                trained = isinstance(evaluator, FinetuneEvaluator)
                yield from map(measured, candidates) if trained else pool.map(measured, candidates)
        finally:
            torch.set_num_threads(workers)

    def measure_baseline(self) -> dict[str, float]:
        """Metrics of the full model, measured like a trial. Raises SearchAborted when it diverges."""
        full = self.space.full()
        *_, last = self.evaluator.evaluate(full)
        metrics = {**last.metrics, **self.space.cost.measure(full)}
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise SearchAborted(
                f"the unpruned model gives {', '.join(f'{name} = {metrics[name]}' for name in bad)}: expected numbers.",
                "Check the checkpoint and that its input normalisation fits the data.",
            )
        return metrics


def prepare(config: SearchConfig, progress: Progress) -> Prepared:
    """Find the model's groups and check that the budgets can be met; then load the data and train or load the base, and
    the hypernetwork where the weights come from one.

    In this order, so that what the user must mend is said before any long work. Raises ConfigError for that, and
    NothingFeasible when a budget is out of reach.
    """
    progress.phase("groups")
    space = with_latency(make_space(config.space), config, progress, lambda: _network(config.space))
    space = with_memory(space, config, progress, lambda: _network(config.space))
    for name, reason in space.left_out.items():
        progress.note(f"group {name} is left out: {reason}")
    decoder = Decoder(
        space,
        config.parsed_constraints(),
        objectives=config.parsed_objectives(),
        tolerance=config.budget_tolerance,
    )
    check_criterion(config, space, lambda: _network(config.space))
    check_hypernet(config, space, lambda: _network(config.space)[0])
    progress.phase("data")
    dataset = sources.load(config.space.data, seed=config.seed, on_progress=_counting(progress))
    base = _base(config, dataset, progress)
    for name, reason in unreconstructed(config, base, space).items():
        progress.note(f"layer {name} is not reconstructed: {reason}")
    made = trained_hypernet(config, space, dataset, base, progress)
    prepared = Prepared(config, dataset, base, space, decoder, made)
    if made is None:
        note_scores(config, lambda: prepared.scores, progress)
    return prepared


def _arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def make_space(config: SpaceConfig) -> SearchSpace:
    """The searched groups of the configured architecture, their widths and costs: no data, no trained weights."""
    return SearchSpace.from_module(*_network(config), config.rules)


def _network(config: SpaceConfig) -> tuple[nn.Module, torch.Tensor]:
    """The full model with random weights, and a black image (1, C, H, W)."""
    shape, num_classes = shape_and_classes(config.data)
    model = registry.build(config.model, num_classes=num_classes, in_channels=shape[0]).eval()
    return model, torch.zeros((1, *shape))


def make_controller(prepared: Prepared | PreparedModule) -> Controller:
    config = prepared.config
    return controllers.make(
        config.controller,
        space=prepared.space,
        decoder=prepared.decoder,
        objectives=config.parsed_objectives(),
        trials=config.limits.trials,
        seed=config.seed,
    )


def make_executor(prepared: Prepared) -> Executor:
    """The executor is imported on use: a serial search needs no Ray."""
    config, limits = prepared.config, prepared.config.limits
    if isinstance(config.executor, RayExecutorConfig):
        from autoprune.executors.ray_tune import RayTuneExecutor

        return RayTuneExecutor(
            config.executor,
            prepared.assets,
            with_model_file(config, evaluator_maker(config)),
            limits.trial_seconds,
            training=trains(config),
            trial_memory=limits.trial_memory_bytes,
        )
    from autoprune.executors.serial import SerialExecutor

    return SerialExecutor(lambda: prepared.evaluator, limits.trial_seconds, limits.trial_memory_bytes)


def with_model_file(config: SearchConfig, make: Callable[[Any], T]) -> Callable[[Any], T]:
    """``make`` for workers of Ray, which may be on machines that lack the user's model file."""
    file = shipped_file(config.space.model)
    return make if file is None else partial(make_with_file, file, make)


def _counting(progress: Progress) -> Callable[[int, int], None]:
    """Decoding as a phase of known length, from the first report on (nothing is reported when a cache is found)."""
    done = 0

    def on_images(now: int, total: int) -> None:
        nonlocal done
        if done == 0:
            progress.phase("decoding images", total)
        progress.advance(step=now - done)
        done = now

    return on_images


def _base(config: SearchConfig, dataset: Dataset, progress: Progress) -> BaseModel:
    recipe = config.space.base.recipe
    progress.phase("base", None if config.space.base.checkpoint else recipe.epochs)
    shown = TrainingShown(progress)
    return base_model(config.space, dataset, on_epoch=shown.on_epoch, on_step=shown.on_step)
