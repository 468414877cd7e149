"""Carries a procedure out: phase by phase, round by round, saved after each so that a killed run goes on."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from autoprune.data.dataset import Split
from autoprune.errors import SearchAborted
from autoprune.procedures import training
from autoprune.procedures.network import Standing
from autoprune.procedures.phases import Finetune, Layers, Preset, Rounds, Sparsify, ZeroedTraining
from autoprune.procedures.progress import CACHE, Course, Row
from autoprune.procedures.refitting import Refit
from autoprune.procedures.scoring import require_applicable, scored
from autoprune.procedures.setting import Setting
from autoprune.protocols import Progress
from autoprune.pruning.allocation import Removal, best_units, beyond, global_removal
from autoprune.training.cached import suited_threads

__all__ = ["Procedure"]

_VERSION = 1
"""Raised whenever a change of the code would give another model for the same content."""
_ROW = 0.02
"""A round gets a line of its own once so much of the base model's MACs has gone since the last one."""


class Procedure:
    """One preset on one setting. ``run`` may be called again after a kill, by a new object in another process."""

    def __init__(self, preset: Preset, setting: Setting, progress: Progress) -> None:
        self.preset, self.setting, self._progress = preset, setting, progress

    def content(self) -> dict[str, Any]:
        """All that decides the result, as JSON."""
        setting = self.setting
        return {
            "version": _VERSION,
            "preset": self.preset.content(),
            "budgets": [str(item) for item in setting.budgets],
            "shares": None if setting.shares is None else dict(setting.shares),
            "allowed": {name: list(widths) for name, widths in setting.allowed.items()},
            "recipe": {**setting.recipe.model_dump(mode="json"), **setting.overrides},
            "factor": setting.factor,
            "trains": setting.trains,
            "seed": setting.seed,
            "identity": setting.identity,
        }

    @property
    def digest(self) -> str:
        """24 hexadecimal digits over the content."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:24]

    def run(self) -> Course:
        """The finished course: at once where an equal run is kept.

        Raises ConfigError when the procedure cannot prune this network, SearchAborted when a training diverges.
        """
        key = self.digest
        course = Course.resume(key, self.setting)
        if course is None:
            setting = self.setting
            require_applicable(self.preset, setting.base, setting.groups, setting.dataset.image_shape)
            course = Course(Standing.begin(copy.deepcopy(setting.base), setting.groups))
        with suited_threads(self.setting.dataset, self.setting.recipe):
            while course.phase < len(self.preset.phases):
                self._phase(course, key)
                course.phase, course.round = course.phase + 1, 0
                course.save(key)
            if not course.done:
                self._finish(course)
                course.save(key)
        course.standing.module.cpu().eval()
        return course

    def _phase(self, course: Course, key: str) -> None:
        phase = self.preset.phases[course.phase]
        if isinstance(phase, Sparsify):
            self._sparsify(course, phase, key)
        elif isinstance(phase, ZeroedTraining):
            self._train_zeroed(course, phase, key)
        elif isinstance(phase, Rounds):
            self._rounds(course, phase, key)
        elif isinstance(phase, Layers):
            self._layers(course, phase, key)
        elif self.setting.trains:
            self._finetune(course, phase, key, shown=True)
            course.rows[-1].after = self._top1(course)

    # --- phases ------------------------------------------------------------------------------------------------------

    def _sparsify(self, course: Course, phase: Sparsify, key: str) -> None:
        course.standing = training.sparsify(course, phase, self.setting, key, self._progress)
        self._add_row(course, "sparse training", None)
        course.rows[-1].after = self._top1(course)
        self._trained(course, key)

    def _train_zeroed(self, course: Course, phase: ZeroedTraining, key: str) -> None:
        course.standing, keep = training.train_zeroed(course, phase, self.setting, key, self._progress)
        course.standing = course.standing.cut(keep)
        if phase.mode == "soft":  # with hard zeros the cut changes nothing, and BatchNorm's statistics are right
            self.setting.calibrate(course.standing.module)
        self._add_row(course, "trained with zeroed filters, cut", None)
        course.rows[-1].after = self._top1(course)
        self._trained(course, key)

    def _rounds(self, course: Course, phase: Rounds, key: str) -> None:
        self._progress.phase("pruning")
        last = False
        while not last:
            last = self._remove(course, phase)
            named = "cut" if last and course.round == 0 else f"round {course.round + 1}"
            measured = self._measured(course, named, last)
            if not last and phase.between is not None and self.setting.trains:
                self._finetune(course, phase.between, key, shown=False)
                if measured:
                    course.rows[-1].after = self._top1(course)
            else:
                course.stage += 1
            course.round += 1
            self._progress.advance(self._where(course))
            if not last:
                course.save_now_and_then(key)

    def _layers(self, course: Course, phase: Layers, key: str) -> None:
        self._progress.phase("layers", len(self.setting.groups))
        self._progress.advance("", course.round)
        refit, counts = Refit(phase, self.setting), self.setting.fixed_counts()
        cut = [at for at, group in enumerate(self.setting.groups) if counts[group.name] < group.units]
        while course.round < len(self.setting.groups):
            at = course.round
            if at in cut:
                self._layer(course, phase, refit, counts)
                if at != cut[-1] and phase.between is not None and self.setting.trains:
                    self._finetune(course, phase.between, key, shown=False)
                    course.rows[-1].after = self._top1(course)
            course.round += 1
            self._progress.advance(f"{self.setting.groups[at].name}: {self._where(course)}")
            if course.round < len(self.setting.groups):
                course.save_now_and_then(key)
        if not cut:
            self._add_row(course, "nothing to cut", self._top1(course))

    def _layer(self, course: Course, phase: Layers, refit: Refit, counts: Mapping[str, int]) -> None:
        """Choose the units of one group, cut it and fit what reads it."""
        before, group = course.standing, course.standing.groups[course.round]
        scores = scored(before, [group], phase.scoring, self.setting, course.stage)
        keep = {group.name: best_units(scores[group.name], counts[group.name])}
        course.standing = before.cut(keep)
        refit(before, group, course.standing, keep)
        self._add_row(course, group.name, self._top1(course))

    def _finetune(self, course: Course, phase: Finetune, key: str, *, shown: bool) -> None:
        training.finetune(course, phase, self.setting, key, self._progress, shown=shown)
        self._trained(course, key)

    def _trained(self, course: Course, key: str) -> None:
        """What a training kept for being taken up again is left behind."""
        CACHE.discard_progress(f"{key}-{course.stage}")
        course.stage += 1

    # --- steps -------------------------------------------------------------------------------------------------------

    def _remove(self, course: Course, phase: Rounds) -> bool:
        """One round without its training; whether it was the last."""
        standing, setting = course.standing, self.setting
        scores = scored(standing, standing.groups, phase.scoring, setting, course.stage)
        if phase.scope == "uniform":
            removal = Removal(setting.fixed_counts(), last=True)
        elif phase.scope == "threshold":
            removal = global_removal(setting.choices, scores, max(1, beyond(scores)))
        else:
            removal = global_removal(setting.choices, scores, self._step(phase))
        keep = {name: best_units(scores[name], count) for name, count in removal.counts.items()}
        course.standing = standing.cut(keep)
        if course.standing.widths != standing.widths:
            setting.calibrate(course.standing.module)
        return removal.last

    def _step(self, phase: Rounds) -> int | None:
        if phase.step_share is None:
            return phase.step
        units = sum(group.units for group in self.setting.groups)
        return max(1, math.floor(phase.step_share * units))

    def _measured(self, course: Course, name: str, last: bool) -> bool:
        """Whether the round got a line: the last one does, and those that took enough."""
        costs = self.setting.costs(course.standing)
        full = self.setting.cost.baseline["macs"]
        above = course.rows[-1].macs if course.rows else full
        if not last and above - costs["macs"] < _ROW * full:
            return False
        self._add_row(course, name, self._top1(course))
        return True

    def _add_row(self, course: Course, name: str, before: float | None) -> None:
        costs = self.setting.costs(course.standing)
        course.rows.append(Row(name, costs["macs"], costs["params"], before))

    def _top1(self, course: Course) -> float:
        top1 = self.setting.measure(course.standing.module)["top1"]
        if not math.isfinite(top1):
            raise SearchAborted(
                f"{self.preset.name}: the network gives no finite numbers after {course.stage} trainings.",
                "Lower the rate, for example --recipe lr=0.001.",
            )
        return top1

    def _where(self, course: Course) -> str:
        share = self.setting.costs(course.standing)["macs"] / self.setting.cost.baseline["macs"]
        left = sum(len(units) for units in course.standing.kept.values())
        return f"{left} units are left, {100 * share:.1f} % of the MACs"

    def _finish(self, course: Course) -> None:
        """Final metrics; the test split is opened here, once."""
        module, setting = course.standing.module, self.setting
        self._progress.phase("test split")
        test = setting.dataset.open_test()
        course.metrics = {**_both(setting, module, test), **setting.costs(course.standing)}
        course.baseline = {**_both(setting, setting.base, test), **setting.cost.baseline}
        bad = [name for name, value in course.metrics.items() if not np.isfinite(value)]
        if bad:
            raise SearchAborted(f"{self.preset.name}: {', '.join(bad)} of the final model are not finite.")


def _both(setting: Setting, module: nn.Module, test: Split) -> dict[str, float]:
    """On search-val, and as ``test_*`` on the test split."""
    tested = setting.measure(module, test)
    return {**setting.measure(module), **{f"test_{name}": value for name, value in tested.items()}}
