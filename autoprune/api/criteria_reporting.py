"""Which criterion ranks channels best: all of them against an oracle that tries each channel."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError, StoreError, UndefinedScore

if TYPE_CHECKING:
    import numpy as np

    from autoprune.analysis.criteria_report import CriteriaReport, CriterionScores
    from autoprune.config.schema import SearchConfig
    from autoprune.data.dataset import Split
    from autoprune.driver.assemble import Prepared
    from autoprune.protocols import Criterion, KnownStatistics, Progress, Statistic

__all__ = ["CriteriaReportResult", "criteria_report"]

_LEAST_IMAGES = 20
_CRITERION_IMAGES = 1000
"""Where the search's weights come from elsewhere, and nothing is said."""


@dataclass(frozen=True)
class CriteriaReportResult:
    """What was found, and the files that say so."""

    report: CriteriaReport
    output: Path
    files: tuple[Path, ...]


def criteria_report(
    config: str | Path | Mapping[str, Any] | SearchConfig,
    *,
    criteria: Sequence[str] = (),
    images: int = 500,
    draws: int = 3,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> CriteriaReportResult:
    """Spearman's correlation of criteria with the oracle, on the base model of a launch file.

    The oracle ablates each unit of each group on ``images`` training images, once: it is kept in the cache. Criteria
    that read data get ``draws`` draws of ``evaluator.weights.criterion_images`` other training images, random ones as
    many seeds. Test and search-val images are not touched. ``criteria``: names, all by default. Files go to ``out``
    (OUTPUT/NAME/criteria).

    Raises ConfigError (an unknown criterion, too few images) and StoreError (files cannot be written).
    """
    from autoprune.analysis.criteria_report import CriteriaReport
    from autoprune.analysis.criteria_report_files import write_report
    from autoprune.api.criteria_oracle import make_oracle
    from autoprune.api.training_materials import require_images
    from autoprune.config.loading import load_search
    from autoprune.driver import assemble

    loaded = load_search(config, overrides)
    names = _checked(criteria, images, draws)
    require_images(loaded)
    shown = progress or Silent()
    folder = _made(Path(out) if out is not None else Path(loaded.output) / loaded.name / "criteria")
    prepared = assemble.prepare(_plain(loaded), shown)
    split = _Images(prepared, images)
    scored = _score_all(prepared, names, split.draws(draws), shown)
    oracle, facts = make_oracle(prepared, split.oracle, shown)
    facts["criteria"] = f"{draws} draws of {split.per_draw} other training images each"
    report = CriteriaReport(loaded.name, oracle, tuple(scored), facts)
    shown.phase("report")
    try:
        files = write_report(report, folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return CriteriaReportResult(report, folder, tuple(files))


def _made(folder: Path) -> Path:
    """Now, so that a folder that cannot be made is said before any work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"the report cannot be written to {folder}: {error.strerror}.", "Use --out DIR.")


def _checked(criteria: Sequence[str], images: int, draws: int) -> list[str]:
    """The criteria's names. Raises ConfigError before anything is loaded or trained."""
    from autoprune.pruning import criteria as registry

    names = list(dict.fromkeys(name.strip() for name in criteria)) or registry.names()
    for name in names:
        registry.get(name)
    if images < _LEAST_IMAGES:
        raise ConfigError(f"an oracle on {images} images says little.", f"Use at least {_LEAST_IMAGES}: --images 500.")
    if draws < 1:
        raise ConfigError(f"{draws} draws of images: expected at least 1.", "Use --draws 3.")
    return names


def _plain(config: SearchConfig) -> SearchConfig:
    """What the base model needs, without budgets, latency tables and hypernetworks."""
    from autoprune.config.evaluation import ReconstructionConfig
    from autoprune.config.schema import InheritWeights, OptunaControllerConfig

    weights = config.evaluator.weights
    images = weights.criterion_images if isinstance(weights, InheritWeights) else _CRITERION_IMAGES
    plain = {"weights": InheritWeights(criterion_images=images), "reconstruction": ReconstructionConfig()}
    evaluator = config.evaluator.model_copy(update=plain)
    left = {"constraints": (), "objectives": ("top1 max", "macs min"), "latency": None, "racing": None}
    return config.model_copy(update={**left, "evaluator": evaluator, "controller": OptunaControllerConfig()})


class _Images:
    """Training images: some for the oracle, and of the others some for each draw of the criteria."""

    def __init__(self, prepared: Prepared, images: int) -> None:
        from autoprune.data.dataset import Split

        train, self._seed = prepared.dataset.train, prepared.config.seed
        if images + _LEAST_IMAGES > len(train):
            raise ConfigError(
                f"{images} images for the oracle, but there are {len(train)} training images, of which criteria need "
                "others.",
                f"Use --images {len(train) // 2}.",
            )
        mixed = train.take(len(train), self._seed)
        self.oracle = Split(mixed.images[:images], mixed.labels[:images])
        self._rest = Split(mixed.images[images:], mixed.labels[images:])
        weights: Any = prepared.config.evaluator.weights
        self.per_draw = min(weights.criterion_images, len(self._rest))

    def draws(self, count: int) -> list[Split]:
        return [self._rest.take(self.per_draw, self._seed + draw) for draw in range(count)]


# --- criteria --------------------------------------------------------------------------------------------------------


def _score_all(
    prepared: Prepared, names: Sequence[str], draws: Sequence[Split], progress: Progress
) -> list[CriterionScores]:
    """Every criterion on every draw. Criteria that need the same statistics share their passes."""
    from autoprune.pruning import criteria as registry

    made = [[registry.get(name, seed=prepared.config.seed + draw) for name in names] for draw in range(len(draws))]
    needs = list(dict.fromkeys(each.needs for each in made[0] if each.needs))
    progress.phase("criteria", len(needs) * sum(map(len, draws)) or None)
    known = [_collected(prepared, needs, draw, progress) for draw in draws]
    return [
        _scored(prepared, [row[place] for row in made], [found.get(made[0][place].needs) for found in known])
        for place in range(len(names))
    ]


@dataclass(frozen=True)
class _Collected:
    statistics: KnownStatistics | None
    """None: they cannot be collected on this network."""
    seconds: float
    problem: str = ""


def _collected(
    prepared: Prepared, needs: Sequence[frozenset[Statistic]], draw: Split, progress: Progress
) -> dict[frozenset[Statistic], _Collected]:
    """One pass for each set of statistics, so that its time can be told."""
    from autoprune.driver.assemble_ranking import labelled_batches
    from autoprune.pruning.statistics import collect

    def advance(rows: int) -> None:
        progress.advance(step=rows)

    found = {}
    for wanted in needs:
        started = time.process_time()
        try:
            statistics = collect(
                prepared.base.module,
                prepared.space.groups,
                wanted,
                labelled_batches(prepared.dataset, draw),
                seed=prepared.config.seed,
                on_batch=advance,
            )
        except ConfigError as error:
            found[wanted] = _Collected(None, 0.0, error.message)
        else:
            found[wanted] = _Collected(statistics, time.process_time() - started)
    return found


def _scored(prepared: Prepared, criteria: Sequence[Criterion], known: Sequence[_Collected | None]) -> CriterionScores:
    """One criterion on all draws; what is undefined or not finite in one of them is left out of all."""
    from autoprune.analysis.criteria_report import CriterionScores, finite_scores
    from autoprune.pruning.ranking import tensors_of

    tensors = tensors_of(prepared.base.module)
    left_out: dict[str, str] = {}
    draws: list[dict[str, np.ndarray]] = []
    started = time.process_time()
    for criterion, collected in zip(criteria, known, strict=True):
        values: dict[str, np.ndarray] = {}
        for group in prepared.space.groups:
            try:
                if collected is not None and collected.statistics is None:
                    raise UndefinedScore(collected.problem)
                values[group.name] = criterion.score(group, tensors, collected.statistics if collected else None)
            except UndefinedScore as undefined:
                left_out.setdefault(group.name, undefined.message)
        scores, reasons = finite_scores(values)
        left_out = {**reasons, **left_out}
        draws.append(scores)
    seconds = (time.process_time() - started) / len(draws) + (known[0].seconds if known[0] else 0.0)
    kept = tuple({name: each for name, each in draw.items() if name not in left_out} for draw in draws)
    needs = ", ".join(sorted(statistic.name for statistic in criteria[0].needs)) or "weights"
    return CriterionScores(criteria[0].name, kept, left_out, needs, seconds)
