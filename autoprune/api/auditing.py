"""Can a search's ranking be trusted? A sample of its candidates, from all of the ranking, trained to their end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.api.stores import open_at, store_url
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError, Conflict

if TYPE_CHECKING:
    from autoprune.analysis.auditing import Audit, Audited
    from autoprune.config.schema import Recipe, SearchConfig
    from autoprune.driver.assemble import Prepared
    from autoprune.protocols import Progress
    from autoprune.retraining.arms import Arm
    from autoprune.retraining.runs import Run
    from autoprune.store import Retraining, Store
    from autoprune.types import Objective, SearchRecord, Trial

__all__ = ["AuditResult", "audit", "stored_audits"]

_FEWEST = 5


@dataclass(frozen=True, eq=False)
class AuditResult:
    """An audit after its runs."""

    audit: Audit
    output: Path
    """The folder of its files."""
    ran: int
    """Runs of this call; the others were in the store."""
    missing: int
    """Runs that did not end."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A trial of the sample, and its runs by seed."""

    trial: Trial
    stratum: int
    runs: tuple[Run, ...]


def audit(
    name: str,
    *,
    candidates: int = 20,
    arm: str | None = None,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    executor: str | None = None,
    out: str | Path | None = None,
    store: str | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Train a stratified sample of a search's candidates, and say how well the search had ranked them.

    Args:
        candidates: how many; the same number draws the same ones.
        arm: as :func:`autoprune.retraining.arms.parse_arm` reads it; None: ``finetune_rewind``, or ``scratch_e`` where
            the search's weights came from a hypernetwork.
        seeds: trainings of each candidate; two or more tell how well these agree among themselves.
        overrides: of the recipe, such as ``epochs=5``.
        executor: ``serial`` or ``ray``; None: the search's own.
        out: folder of the files; None: ``audit`` in the search's folder.

    Runs are those of :func:`autoprune.compare`: each is stored when it ends, shared with comparisons, and never run
    twice. What was found is stored too, and shown by comparisons and by ``autoprune select``. Raises NotFound, Conflict
    (too few trials to rank, another base model), ConfigError, SearchAborted when no run can be carried out, StoreError.
    """
    from autoprune.analysis.auditing_report import as_json, write_audit
    from autoprune.analysis.axes import search_axes
    from autoprune.analysis.finite import finite
    from autoprune.analysis.overview import search_objectives
    from autoprune.api.comparing_runs import carry_out, executed_by, output_folder
    from autoprune.api.exporting import require_same
    from autoprune.api.reporting import facts
    from autoprune.api.training_materials import recipe_of, usable_arm
    from autoprune.config.loading import load_search
    from autoprune.driver.assemble import prepare
    from autoprune.retraining.arms import spec

    shown = progress or Silent()
    _check_counts(candidates, seeds)
    with open_at(store_url(store)) as opened:
        record = opened.search(name)
        config = executed_by(load_search(record.config), executor)
        recipe, chosen = recipe_of(config, overrides), usable_arm(arm or _usual_arm(config), config)
        quality = search_axes(search_objectives(record))[1]
        ranked = _ranked(opened, record, quality)
        folder = output_folder(Path(out) if out is not None else Path(config.output) / name / "audit")
        prepared = prepare(config, shown)
        require_same(record, prepared)
        planned = _planner(prepared, chosen, seeds, recipe)
        drawn = _drawn(ranked, quality, candidates, config.seed, planned)
        ran, failed = carry_out(opened, prepared, _seed_by_seed(drawn), shown)
        kept = opened.retrainings({run.digest for item in drawn for run in item.runs})
        notes = [*_notes(record, drawn, candidates), *(f"a run failed and is left out: {text}" for text in failed)]
        found = _audit(record, config, quality, chosen, drawn, kept, len(ranked), seeds, notes)
        opened.save_audit(name, spec(chosen), finite(as_json(found)))
    write_audit(found, folder, facts=facts())
    return AuditResult(found, folder, ran, sum(run.digest not in kept for item in drawn for run in item.runs))


def stored_audits(name: str, *, store: str | None = None) -> list[dict[str, Any]]:
    """What audits of a search's ranking found, one an arm, the latest first: as ``audit.json`` says it. No torch."""
    with open_at(store_url(store), read_only=True) as opened:
        opened.baseline(name)
        return opened.audits(name)


def _check_counts(candidates: int, seeds: int) -> None:
    if candidates < _FEWEST:
        raise ConfigError(
            f"candidates is {candidates}: an order of fewer than {_FEWEST} says next to nothing.",
            "Take 20, or 12 for long trainings.",
        )
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}, expected at least one training a candidate.", "Take 1, or 2 to 3.")


def _usual_arm(config: SearchConfig) -> str:
    """How the search's own model would be finished: MetaPruning trains its choice from new weights."""
    return "scratch_e" if config.evaluator.weights.kind == "hypernet" else "finetune_rewind"


def _ranked(opened: Store, record: SearchRecord, quality: Objective) -> list[Trial]:
    """Complete trials of different widths that have what the search ranked by. Raises Conflict for too few."""
    from autoprune.analysis.metrics import finite
    from autoprune.types import TrialState

    name = record.name
    complete = opened.trials(name, states=[TrialState.COMPLETE])
    measured = [trial for trial in complete if finite(trial.metrics, quality.metric) and finite(trial.metrics, "macs")]
    found = list({trial.candidate.digest: trial for trial in reversed(measured)}.values())[::-1]
    if len(found) < _FEWEST:
        what = f"{len(found)} complete trial{'' if len(found) == 1 else 's'} of different widths"
        raise Conflict(
            f"search {name!r} has {what}; an audit ranks at least {_FEWEST}.",
            f"Go on with it: autoprune resume {name} --trials {max(20, 2 * _FEWEST)}.",
        )
    return found


def _planner(prepared: Prepared, arm: Arm, seeds: int, recipe: Recipe) -> Callable[[Trial], tuple[Run, ...]]:
    """A trial -> its runs, one a seed."""
    from autoprune.api.comparing_plan import plan_run

    full = prepared.space.cost.baseline["macs"]

    def planned(trial: Trial) -> tuple[Run, ...]:
        prepared.space.validate(trial.candidate)
        ratio = full / prepared.space.cost.measure(trial.candidate)["macs"]
        return tuple(plan_run(prepared, trial.candidate.widths, arm, seed, recipe, ratio) for seed in range(seeds))

    return planned


def _drawn(
    ranked: Sequence[Trial], quality: Objective, count: int, seed: int, planned: Callable[[Trial], tuple[Run, ...]]
) -> list[_Drawn]:
    from autoprune.analysis.audit_sampling import stratified

    macs = np.array([trial.metrics["macs"] for trial in ranked])
    values = -quality.sign * np.array([trial.metrics[quality.metric] for trial in ranked])
    strata = stratified(macs, values, count, seed)
    return [
        _Drawn(trial, int(stratum), planned(trial))
        for trial, stratum in zip(ranked, strata, strict=True)
        if stratum >= 0
    ]


def _seed_by_seed(drawn: Sequence[_Drawn]) -> list[Run]:
    """So that what is cut off early has whole seeds."""
    return [run for runs in zip(*(item.runs for item in drawn), strict=True) for run in runs]


def _notes(record: SearchRecord, drawn: Sequence[_Drawn], asked: int) -> list[str]:
    found = []
    if len(drawn) < asked:
        found.append(f"{asked} candidates were asked for; the search has {len(drawn)} of different widths.")
    stopped = record.trial_counts.get("stopped", 0)
    if stopped:
        found.append(
            f"{stopped} trials were stopped early and cannot be drawn: how well the search tells these from the rest "
            "is not judged here."
        )
    return found


def _audit(
    record: SearchRecord,
    config: SearchConfig,
    quality: Objective,
    arm: Arm,
    drawn: Sequence[_Drawn],
    kept: Mapping[str, Retraining],
    complete: int,
    seeds: int,
    notes: Sequence[str],
) -> Audit:
    from autoprune.analysis.auditing import Audit
    from autoprune.retraining.arms import spec

    sample = [_audited(item, kept, quality.metric) for item in drawn]
    lost = [item for item in sample if not math.isfinite(item.final)]
    if lost:
        numbers = ", ".join(str(item.trial) for item in lost)
        notes = [*notes, f"without a final accuracy (failed or diverged), and left out: trials {numbers}."]
    return Audit(
        search=record.name,
        arm=spec(arm),
        epochs=max(run.epochs for item in drawn for run in item.runs),
        seeds=seeds,
        measure=quality.metric,
        sign=-quality.sign,
        ranked_by=_ranked_by(config, quality),
        dense_macs=record.baseline["macs"],
        complete=complete,
        sample=tuple(sample),
        notes=tuple(notes),
    )


def _audited(item: _Drawn, kept: Mapping[str, Retraining], measure: str) -> Audited:
    from autoprune.analysis.auditing import Audited

    ended = [(run.recipe.seed, kept[run.digest].metrics) for run in item.runs if run.digest in kept]
    measured = item.trial.metrics
    names = [measure, *(name for name in measured if name.startswith("top1") and name != measure)]
    return Audited(
        trial=item.trial.number,
        macs=measured["macs"],
        stratum=item.stratum,
        proxies={name: measured[name] for name in names if math.isfinite(measured[name])},
        seeds=tuple(seed for seed, _ in ended),
        top1=tuple(metrics["top1"] for _, metrics in ended),
        test_top1=tuple(metrics["test_top1"] for _, metrics in ended),
    )


def _ranked_by(config: SearchConfig, quality: Objective) -> str:
    """In words: the metric, where the weights came from, and what was done with them."""
    from autoprune.config.schema import HypernetWeights

    hypernet = isinstance(config.evaluator.weights, HypernetWeights)
    weights = "weights of the hypernetwork" if hypernet else "inherited weights"
    fidelity = config.model_dump(mode="json").get("fidelity") or {}
    if fidelity.get("kind") == "finetune":
        return f"{quality.metric} of {weights} after {fidelity['epochs']} epochs of fine-tuning"
    calibrated = "BatchNorm re-estimated" if config.evaluator.calibration_images else "as they are"
    return f"{quality.metric} of {weights}, {calibrated}"
