"""What a comparison trains: candidates of a search, their references at equal MACs, and the runs of all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.analysis.axes import search_axes
from autoprune.analysis.metrics import format_count, require_known
from autoprune.analysis.overview import search_objectives
from autoprune.analysis.rethinking import Subject
from autoprune.analysis.selection import choose, nothing_feasible
from autoprune.config.expressions import parse_constraint
from autoprune.config.schema import InheritWeights, Recipe
from autoprune.controllers.drawing import Aim
from autoprune.driver.assemble import Prepared
from autoprune.errors import ConfigError, Conflict
from autoprune.retraining.arms import Arm, ScratchE, spec
from autoprune.retraining.runs import Run
from autoprune.space import Decoder
from autoprune.store import Retraining
from autoprune.types import Candidate, SearchRecord, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.store import Store

__all__ = ["PlannedRun", "choose_trials", "plan_run", "plan_runs", "subjects_of"]

_SPREAD = (0.7, 0.5, 0.3)
"""Shares of the baseline's MACs that are looked at unless trials are named."""
_EQUAL_MACS = (0.95, 1.02)
"""A trial of a random search within these multiples of a candidate's MACs is its equal."""


@dataclass(frozen=True)
class PlannedRun:
    """A run and whose it is."""

    subject: str
    arm: Arm
    seed: int
    run: Run


def choose_trials(
    opened: Store, record: SearchRecord, *, numbers: Sequence[int], where: Sequence[str], top: int | None
) -> list[Trial]:
    """The trials named, or the best ``top`` within the budgets, or those of the front nearest 70, 50 and 30 % MACs.

    Raises NotFound for a trial that is not there, Conflict for one that was not measured or a search without any,
    NothingFeasible for a budget that none meets, ConfigError for an expression, or for both ways at once.
    """
    name = record.name
    if numbers and (where or top):
        raise ConfigError("got --trial together with --top or --where.", "Name trials, or say which are the best.")
    complete = opened.trials(name, states=[TrialState.COMPLETE])
    if not complete:
        raise Conflict(
            f"search {name!r} has no finished trials to compare.", f"Go on with it: autoprune resume {name}."
        )
    if numbers:
        return [_finished(opened.trial(name, number), name) for number in dict.fromkeys(numbers)]
    quality = search_axes(search_objectives(record))[1]
    if not where and top is None:
        return _spread(complete, record, quality.sign, quality.metric)
    limits = [item for text in where for item in parse_constraint(text)]
    asked = [quality.metric, *(item.metric for item in limits)]
    for metric in asked:
        if metric.startswith("test_"):
            raise ConfigError(f"{metric!r} is measured on the test split and cannot choose a model.")
    require_known(asked, set().union(*(trial.metrics for trial in complete)))
    met = [trial for trial in complete if not any(item.miss(trial.metrics, record.baseline) for item in limits)]
    if not met:
        columns = {name: np.array([trial.metrics.get(name, np.nan) for trial in complete]) for name in (*asked, "macs")}
        choice = choose(columns, limits, record.baseline, quality)
        raise nothing_feasible(complete[choice.row], choice.ranked, limits, record.baseline)
    met.sort(key=lambda trial: (quality.sign * trial.metrics[quality.metric], trial.metrics["macs"]))
    return _distinct(met)[: top or 1]


def _finished(trial: Trial, name: str) -> Trial:
    if trial.state is not TrialState.COMPLETE:
        raise Conflict(
            f"trial {trial.number} of {name!r} is {trial.state.value}; only complete trials can be compared.",
            f"'autoprune trials {name}' lists them.",
        )
    return trial


def _spread(trials: Sequence[Trial], record: SearchRecord, sign: int, quality: str) -> list[Trial]:
    """For each share of the MACs the best trial at most 5 % (of the full model's) below it, else the nearest."""
    full = record.baseline["macs"]
    found = []
    for share in _SPREAD:
        near = [trial for trial in trials if share - 0.05 <= trial.metrics["macs"] / full <= share]
        if near:
            found.append(min(near, key=lambda trial: (sign * trial.metrics[quality], trial.number)))
        else:
            found.append(min(trials, key=lambda trial: (abs(trial.metrics["macs"] / full - share), trial.number)))
    return _distinct(found)


def _distinct(trials: Sequence[Trial]) -> list[Trial]:
    return list({trial.candidate.digest: trial for trial in reversed(trials)}.values())[::-1]


# --- subjects --------------------------------------------------------------------------------------------------------


def subjects_of(
    opened: Store, prepared: Prepared, trials: Sequence[Trial], *, with_random: int, note: Callable[[str], None]
) -> list[Subject]:
    """The dense model, the trials, and for each of them uniform widths and random search's best at equal MACs."""
    record = opened.search(prepared.config.name)
    base = record.baseline
    full = prepared.space.full()
    found = [Subject("dense", "dense", "", full.widths, base["macs"], base["params"], base.get("top1", np.nan))]
    decoder = Decoder(prepared.space, ())
    for trial in trials:
        prepared.space.validate(trial.candidate)
        own = f"trial {trial.number}"
        found.append(_subject(prepared, own, "candidate", "", trial.candidate, trial.metrics.get("top1", np.nan)))
        even = decoder.decode_to(full, "macs", trial.metrics["macs"])
        found.append(_subject(prepared, f"uniform for {own}", "uniform", own, even, _measured(prepared, even)))
        best = _random_best(opened, prepared, decoder, trial, with_random, note)
        if best is not None:
            found.append(_subject(prepared, f"random for {own}", "random", own, *best))
    return found


def _subject(prepared: Prepared, name: str, role: str, of: str, candidate: Candidate, proxy: float) -> Subject:
    cost = prepared.space.cost.measure(candidate)
    return Subject(name, role, of, candidate.widths, cost["macs"], cost["params"], proxy)


def _measured(prepared: Prepared, candidate: Candidate) -> float:
    *_, last = prepared.evaluator.evaluate(candidate)
    return float(last.metrics["top1"])


def _random_best(
    opened: Store, prepared: Prepared, decoder: Decoder, trial: Trial, count: int, note: Callable[[str], None]
) -> tuple[Candidate, float] | None:
    """Of a stored random search with the same evaluation, or of ``count`` candidates drawn now."""
    macs, name = trial.metrics["macs"], prepared.config.name
    if count:
        return _drawn_best(opened, prepared, decoder, macs, count)
    stored = [
        other
        for record in opened.searches()
        if _is_random(record.config) and record.evaluation_digest == prepared.evaluation_digest
        for other in opened.trials(record.name, states=[TrialState.COMPLETE])
        if _EQUAL_MACS[0] <= other.metrics["macs"] / macs <= _EQUAL_MACS[1]
    ]
    if not stored:
        note(
            f"no random search of this space is in the store, so trial {trial.number} is not compared with one: "
            f"--with-random N measures N random candidates of {format_count(macs)} MACs and takes the best."
        )
        return None
    best = max(stored, key=lambda other: other.metrics["top1"])
    note(
        f"random for trial {trial.number}: the best of the stored random trials of about its MACs ({len(stored)}); "
        f"{_evaluations(opened, name)}."
    )
    return best.candidate, float(best.metrics["top1"])


def _evaluations(opened: Store, name: str) -> str:
    return f"the search itself measured {sum(opened.search(name).trial_counts.values())} candidates of all sizes"


def _is_random(config: Any) -> bool:
    controller = config.get("controller", {})
    return controller.get("kind") == "random" or controller.get("sampler") == "random"


def _drawn_best(
    opened: Store, prepared: Prepared, decoder: Decoder, macs: float, count: int
) -> tuple[Candidate, float]:
    """A function of the budget, the count and the search's seed; kept in the store, so that it is measured once."""
    content = {"random": count, "macs": macs, "seed": prepared.config.seed, "evaluation": prepared.evaluation_digest}
    digest = hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:24]
    kept = opened.retrainings([digest]).get(digest)
    if kept is not None:
        return Candidate(kept.content["widths"]), kept.metrics["top1"]
    rng, aim = np.random.default_rng((prepared.config.seed, count)), Aim(decoder, ())
    low, high = decoder.cost_range("macs")
    share = min(1.0, max(0.0, (macs - low) / (high - low))) if high > low else 0.0
    drawn = [aim.place(rng.uniform(-1.0, 1.0, len(prepared.space.dimensions)), share) for _ in range(count)]
    best, top1 = max(((item, _measured(prepared, item)) for item in drawn), key=lambda pair: pair[1])
    content["widths"] = dict(best.widths)
    opened.save_retraining(prepared.config.name, Retraining(digest, content, {"top1": top1}))
    return best, top1


# --- runs ------------------------------------------------------------------------------------------------------------


def plan_runs(
    prepared: Prepared, subjects: Sequence[Subject], arms: Sequence[Arm], seeds: int, recipe: Recipe
) -> list[PlannedRun]:
    """Candidates by all arms; references by ``finetune_rewind`` and ``scratch_e`` (where asked for, else the first
    arm); the dense model by the baseline's recipe. Seed by seed, so that what is cut off early has whole seeds.
    """
    named = [arm for arm in arms if spec(arm) in ("finetune_rewind", "scratch_e")] or list(arms[:1])
    full = prepared.space.cost.baseline["macs"]
    planned = []
    for seed in range(seeds):
        for subject in subjects:
            chosen = {"dense": [ScratchE()], "candidate": arms}.get(subject.role, named)
            for arm in chosen:
                run = plan_run(prepared, subject.widths, arm, seed, recipe, full / subject.macs)
                planned.append(PlannedRun(subject.name, arm, seed, run))
    return planned


def plan_run(prepared: Prepared, widths: Mapping[str, int], arm: Arm, seed: int, recipe: Recipe, ratio: float) -> Run:
    """``recipe`` is the baseline's; ``ratio`` its MACs over those of the ``widths``."""
    training = arm.training(recipe, ratio)
    seeded = training.recipe.model_copy(update={"seed": seed})
    return Run(widths, spec(arm), arm.start, seeded, training.first_epoch, _identity(prepared))


def _identity(prepared: Prepared) -> str:
    """What a run's own settings do not tell: the networks to start from, the images, how channels are ranked."""
    data, weights = prepared.dataset, prepared.config.evaluator.weights
    space = prepared.config.space
    parts = [
        prepared.base.digest,
        "" if prepared.hypernet is None else prepared.hypernet.digest,
        data.train.digest,
        data.search_val.digest,
        weights.ranking if isinstance(weights, InheritWeights) else "",
        str(prepared.config.seed),
        str(space.base.recipe.seed),
        repr(space.model),
    ]
    reconstruction = prepared.config.evaluator.reconstruction
    if reconstruction.kind != "none":
        parts.append(f"{reconstruction.model_dump_json()} {prepared.config.evaluator.calibration_images > 0}")
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
