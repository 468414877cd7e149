"""Does inheriting weights help? Training a search's candidates to their end in several ways, several seeds each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoprune.api.stores import open_at, store_url
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.analysis.rethinking import ArmRuns, Comparison, Subject
    from autoprune.api.comparing_plan import PlannedRun
    from autoprune.config.schema import Recipe, SearchConfig
    from autoprune.driver.assemble import Prepared
    from autoprune.protocols import Progress
    from autoprune.retraining.arms import Arm
    from autoprune.store import Retraining

__all__ = ["CompareResult", "compare"]


@dataclass(frozen=True, eq=False)
class CompareResult:
    """A comparison after its runs."""

    comparison: Comparison
    output: Path
    """The folder of its files."""
    ran: int
    """Runs of this call; the others were in the store."""
    missing: int
    """Runs that did not end, since the call was stopped."""


def compare(
    name: str,
    *,
    trials: Sequence[int] = (),
    where: Sequence[str] = (),
    top: int | None = None,
    arms: Sequence[str] = (),
    seeds: int = 5,
    overrides: Sequence[str] = (),
    executor: str | None = None,
    with_random: int = 0,
    out: str | Path | None = None,
    store: str | None = None,
    progress: Progress | None = None,
) -> CompareResult:
    """Train candidates of a finished search by each arm and seed, with references of equal MACs, and compare.

    Args:
        trials: numbers; else the best ``top`` within ``where``, else the best near 70, 50 and 30 % of the MACs.
        arms: as :func:`autoprune.retraining.arms.parse_arm` reads them; none: all that the search allows.
        seeds: 0 to ``seeds - 1``; intervals need two.
        overrides: of the recipe, such as ``epochs=5``, for all arms.
        executor: ``serial`` or ``ray``; None: the search's own.
        with_random: measure so many random candidates at each candidate's MACs and take the best as a reference.
        out: folder of the files; None: ``compare`` in the search's folder.

    Each result is stored when its run ends, so that the same call goes on where it was cut. Raises NotFound, Conflict
    (nothing to compare, another base model), ConfigError (an arm, a setting), NothingFeasible, SearchAborted when no
    run can be carried out, StoreError.
    """
    from autoprune.analysis.rethinking_report import write_comparison
    from autoprune.api.comparing_plan import choose_trials, plan_runs, subjects_of
    from autoprune.api.comparing_runs import carry_out, executed_by, output_folder
    from autoprune.api.exporting import require_same
    from autoprune.api.reporting import audit_lines, facts
    from autoprune.api.training_materials import recipe_of
    from autoprune.config.loading import load_search
    from autoprune.driver.assemble import prepare

    shown = progress or Silent()
    with open_at(store_url(store)) as opened:
        record = opened.search(name)
        config = executed_by(load_search(record.config), executor)
        recipe = recipe_of(config, overrides)
        chosen_arms = _arms(arms, config)
        _check_counts(seeds, with_random)
        folder = output_folder(Path(out) if out is not None else Path(config.output) / name / "compare")
        chosen = choose_trials(opened, record, numbers=trials, where=where, top=top)
        prepared = prepare(config, shown)
        require_same(record, prepared)
        shown.phase("references")
        notes: list[str] = []
        subjects = subjects_of(opened, prepared, chosen, with_random=with_random, note=notes.append)
        planned = plan_runs(prepared, subjects, chosen_arms, seeds, recipe)
        ran, failed = carry_out(opened, prepared, [item.run for item in planned], shown)
        notes += [f"a run failed and is left out: {reason}" for reason in failed]
        kept = opened.retrainings({item.run.digest for item in planned})
        audits = audit_lines(opened, name)
    comparison = _comparison(prepared, subjects, planned, kept, recipe, notes, audits)
    write_comparison(comparison, folder, facts=facts())
    return CompareResult(comparison, folder, ran, len({item.run.digest for item in planned} - kept.keys()))


def _arms(names: Sequence[str], config: SearchConfig) -> list[Arm]:
    """Parsed, each once, and known to have what they start from."""
    from autoprune.api.training_materials import usable_arm
    from autoprune.config.schema import HypernetWeights
    from autoprune.retraining.arms import DEFAULT_ARMS

    hypernet = isinstance(config.evaluator.weights, HypernetWeights)
    initial = config.space.base.checkpoint is None
    usual = ("hypernet", "scratch_e", "scratch_b") if hypernet else DEFAULT_ARMS
    named = names or [text for text in usual if initial or text != "rewind"]
    return list(dict.fromkeys(usable_arm(text, config) for text in named))


def _check_counts(seeds: int, with_random: int) -> None:
    if seeds < 2:
        raise ConfigError(
            f"seeds is {seeds}: differences and their intervals need at least two.", "Take 5, or 3 for long trainings."
        )
    if with_random < 0:
        raise ConfigError(f"with_random is {with_random}, expected a number of candidates.", "For example 50.")


def _comparison(
    prepared: Prepared,
    subjects: Sequence[Subject],
    planned: Sequence[PlannedRun],
    kept: Mapping[str, Retraining],
    recipe: Recipe,
    notes: Sequence[str],
    audits: Sequence[str],
) -> Comparison:
    from autoprune.analysis.rethinking import Comparison
    from autoprune.api.comparing_compute import base_training_macs, hypernet_training_macs

    base, full = prepared.config.space.base, prepared.space.cost.baseline["macs"]
    images = len(prepared.dataset.train)
    if recipe != base.recipe:
        changed = [name for name, value in recipe.model_dump().items() if value != getattr(base.recipe, name)]
        notes = [*notes, f"the base model was trained by another recipe (different here: {', '.join(changed)})."]
    if base.checkpoint is not None:
        notes = [*notes, "the base model came from a checkpoint; its training is counted as base.recipe describes it."]
    return Comparison(
        search=prepared.config.name,
        dense_macs=full,
        base_training_macs=base_training_macs(prepared),
        base_epochs=base.recipe.epochs,
        seeds=tuple(dict.fromkeys(item.seed for item in planned)),
        subjects=tuple(subjects),
        results=tuple(_results(subjects, planned, kept, images)),
        notes=tuple(notes),
        hypernet_macs=hypernet_training_macs(prepared),
        audits=tuple(audits),
    )


def _results(
    subjects: Sequence[Subject], planned: Sequence[PlannedRun], kept: Mapping[str, Retraining], images: int
) -> Iterator[ArmRuns]:
    """One a subject and arm, in the order in which they were planned."""
    from autoprune.analysis.rethinking import ArmRuns
    from autoprune.retraining.arms import spec, training_macs
    from autoprune.retraining.runs import images_per_epoch

    macs = {subject.name: subject.macs for subject in subjects}
    groups: dict[tuple[str, str], list[PlannedRun]] = {}
    for item in planned:
        groups.setdefault((item.subject, spec(item.arm)), []).append(item)
    for subject in subjects:
        for (name, arm), items in groups.items():
            if name != subject.name:
                continue
            run = items[0].run
            ended = [item for item in items if item.run.digest in kept]
            found = [kept[item.run.digest].metrics for item in ended]
            yield ArmRuns(
                subject=name,
                arm=arm,
                start=run.start,
                epochs=run.epochs,
                training_macs=training_macs(macs[name], images_per_epoch(images, run.recipe), run.epochs),
                seeds=tuple(item.seed for item in ended),
                top1=np.array([metrics["top1"] for metrics in found]),
                test_top1=np.array([metrics["test_top1"] for metrics in found]),
                seconds=np.array([metrics["train_seconds"] for metrics in found]),
            )
