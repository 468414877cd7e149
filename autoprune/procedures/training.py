"""The trainings of a procedure: each goes on where it was cut."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from autoprune.procedures.network import Standing
from autoprune.procedures.phases import Finetune, Sparsify, ZeroedTraining
from autoprune.procedures.progress import CACHE, Course
from autoprune.procedures.scoring import chosen_zeros
from autoprune.procedures.setting import Setting
from autoprune.protocols import Progress
from autoprune.training.loop import Trainer
from autoprune.training.sparsity import FilterZeroing, SparseScales, ZeroingTrainer, scales

__all__ = ["finetune", "sparsify", "train_zeroed"]

_SAVE_SECONDS = 20.0
_Make = Callable[..., Trainer]


class _BriefTrainer(Trainer):
    """For the trainings between hundreds of rounds: scoring search-val would take longer than they do."""

    def _validate(self) -> float:
        return math.nan


def finetune(course: Course, phase: Finetune, setting: Setting, key: str, progress: Progress, *, shown: bool) -> None:
    """Train the network as it stands, in place; ``shown``: as a phase of its own, with accuracies."""
    module, kind = course.standing.module.requires_grad_(True), Trainer if shown else _BriefTrainer
    _train(lambda *given, **more: kind(module, *given, **more), phase, course, setting, key, progress, shown=shown)


def sparsify(course: Course, phase: Sparsify, setting: Setting, key: str, progress: Progress) -> Standing:
    """A full network trained with the pull: from the initial weights, or from the base model where they are unknown."""
    module = setting.fresh() if setting.fresh is not None else copy.deepcopy(setting.base)
    if setting.fresh is not None:
        with torch.no_grad():
            for scale in scales(module):
                scale.fill_(phase.gamma)
    module.requires_grad_(True)

    def make(*given: Any, **more: Any) -> Trainer:
        return SparseScales(module, *given, strength=phase.strength, **more)

    _train(make, phase, course, setting, key, progress, shown=True)
    return Standing.begin(module, setting.groups)


def train_zeroed(
    course: Course, phase: ZeroedTraining, setting: Setting, key: str, progress: Progress
) -> tuple[Standing, Mapping[str, Any]]:
    """The full network with zeroed units that emit nothing, and the units that are left: group -> ascending."""
    module = copy.deepcopy(course.standing.module).requires_grad_(True)
    zeroing = FilterZeroing(lambda model: chosen_zeros(course.standing, model, phase.scoring, setting))

    def make(*given: Any, **more: Any) -> Trainer:
        return ZeroingTrainer(module, *given, zeroing=zeroing, mode=phase.mode, **more)

    _train(make, phase, course, setting, key, progress, shown=True)
    zeroing.apply(module)
    standing = Standing(module, course.standing.groups, course.standing.kept)
    keep = {}
    for group in standing.groups:
        stays = torch.ones(group.units, dtype=torch.bool)
        stays[zeroing.chosen.units[group.name].cpu()] = False
        keep[group.name] = torch.nonzero(stays).flatten().numpy()
    return standing, keep


def _train(
    make: _Make,
    phase: Finetune | Sparsify | ZeroedTraining,
    course: Course,
    setting: Setting,
    key: str,
    progress: Progress,
    *,
    shown: bool,
) -> None:
    """Train what ``make`` gives; a partial state is kept under the key and the stage until the course is saved."""
    recipe, dataset = setting.stage_recipe(phase.recipe, phase.length, course.stage)
    saved, name = time.perf_counter(), f"{key}-{course.stage}"

    def pause() -> None:
        nonlocal saved
        if shown:
            progress.advance(str(trainer.standing()), 0)
        if time.perf_counter() - saved > _SAVE_SECONDS:
            CACHE.save_progress(name, trainer, 0.0)
            saved = time.perf_counter()

    trainer = make(dataset, recipe, on_pause=pause)
    CACHE.load_progress(name, trainer)
    if shown:
        progress.phase("training", recipe.epochs)
        progress.advance("", trainer.epoch)
    for report in trainer.run():
        if shown:
            top1 = f"search-val top1 {100 * report.val_top1:.2f} %"
            progress.advance(f"loss {report.loss:.3f}, {top1}, {report.pace}")
        if time.perf_counter() - saved > _SAVE_SECONDS and report.epoch < report.epochs:
            CACHE.save_progress(name, trainer, 0.0)
            saved = time.perf_counter()
    # what is read back from a file lies here in this layout, and sums in another order differ in the last bits
    trainer.model.cpu().eval().to(memory_format=torch.contiguous_format)
