"""An audit in sentences, each no stronger than its interval, and as rows of tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autoprune.analysis.auditing import Audit, Interval
from autoprune.analysis.metrics import describe
from autoprune.analysis.rethinking import LOW_TAU

__all__ = [
    "AGREEMENT",
    "STRATA",
    "agreement_rows",
    "candidate_columns",
    "candidate_rows",
    "conventions",
    "in_brackets",
    "measure_label",
    "sentences",
    "short",
    "strata_rows",
    "warning",
]

_ENOUGH = 10
"""From so many candidates on, agreement without an exception, which has no interval, is believed."""
AGREEMENT = (
    "measure",
    "n",
    *("tau", "tau_low", "tau_high"),
    *("tau_within", "tau_within_low", "tau_within_high"),
    *("tau_given_size", "tau_given_size_low", "tau_given_size_high"),
    "spearman",
)
STRATA = (
    "stratum",
    "n",
    "low_macs",
    "high_macs",
    "tau",
    "chosen_trial",
    "chosen",
    "best_trial",
    "best",
    "mean",
    "top",
    "shared",
)


def sentences(audit: Audit) -> list[str]:
    """What was found: agreement, what choosing by the measure costs, and how well two trainings agree."""
    main = audit.main
    strata = len(audit.results)
    alone = audit.agreements[-1]
    found = [
        f"Among candidates of about equal MACs, what the search ranked by ({audit.ranked_by}) agrees with final test "
        f"accuracy ({audit.arm}, {audit.epochs} epochs) by Kendall's tau {_with_interval(main.within, audit)}, and "
        f"{_with_interval(main.given_size, audit)} with what size still explains there taken out: "
        f"{main.n} candidates in {strata} strata, {_counted(audit.seeds, 'seed')}.",
        f"Over all sizes tau is {_with_interval(main.overall, audit)}, which size inflates: "
        f"MACs alone have {_with_interval(alone.overall, audit)}.",
        _choices(audit),
    ]
    if math.isfinite(audit.repeatability):
        found.append(
            f"Two trainings of these candidates by other seeds agree by tau {audit.repeatability:.2f} within strata; "
            "a measure can hardly agree better with one training than that."
        )
    return found


def warning(audit: Audit) -> str:
    """Empty where the ranking at equal size can be relied on."""
    within = audit.main.within
    text = _warned(within, audit)
    if text and math.isfinite(audit.repeatability) and audit.repeatability < LOW_TAU:
        text += (
            f" Two trainings agree no better than tau {audit.repeatability:.2f} themselves: at equal size these "
            "candidates hardly differ once they are trained, and more seeds would be needed to rank them."
        )
    return text


def _warned(within: Interval, audit: Audit) -> str:
    if not math.isfinite(within.value):
        return "within strata all candidates are equal by one of the two, so there is no ranking to judge."
    if within.value < LOW_TAU and not within.low > 0:
        return (
            f"tau within strata is below {LOW_TAU:g} and not shown to be better than chance: train several candidates "
            "of a budget to their end before one is chosen."
        )
    if within.value < LOW_TAU:
        return (
            f"tau within strata is below {LOW_TAU:g}: train several candidates of a budget to their end before one is "
            "chosen."
        )
    if within.low < LOW_TAU or (math.isnan(within.low) and audit.main.n < _ENOUGH):
        return (
            f"the interval of tau within strata is not above {LOW_TAU:g}: {audit.main.n} candidates do not show that "
            "the ranking can be relied on; audit more of them."
        )
    return ""


def short(audit: Audit) -> str:
    """For places that show something else: one line."""
    return (
        f"audit of the ranking by {audit.measure}: tau {in_brackets(audit.main.within)} with final test accuracy "
        f"({audit.arm}) among candidates of about equal size, {in_brackets(audit.main.overall)} over all sizes"
    )


def conventions(audit: Audit) -> list[str]:
    """What the numbers mean, for every output."""
    return [
        f"The sample is stratified: trials were cut by MACs into parts, and of each part's ranking one was drawn from "
        f"each of as many slices as candidates, from the first slice its best. Tau over the front alone would be "
        f"biased: its members were chosen by the accuracy that is judged here. Drawn from {audit.complete} complete "
        "trials of different widths.",
        f"Tau is Kendall's tau-b; 'within' counts pairs of one stratum only, 'given size' is the partial tau of these "
        f"pairs given MACs. Intervals: {100 * audit.confidence:.0f} % percentile bootstrap over the candidates of each "
        "stratum; none where resamples do not differ.",
        "Final accuracies are of the last epoch, on test images that were opened once a run, after it, and decide "
        "nothing. The best of a sample is partly luck, since it is picked by that accuracy. Noise of one training "
        "lowers tau; means over more seeds lower it less.",
    ]


def agreement_rows(audit: Audit) -> list[dict[str, Any]]:
    """One a measure, under ``AGREEMENT``."""
    rows = []
    for item in audit.agreements:
        row: dict[str, Any] = {"measure": item.measure, "n": item.n, "spearman": item.spearman}
        for name, interval in (
            ("tau", item.overall),
            ("tau_within", item.within),
            ("tau_given_size", item.given_size),
        ):
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        rows.append(row)
    return rows


def strata_rows(audit: Audit) -> list[dict[str, Any]]:
    """One a stratum, under ``STRATA``."""
    return [dict(vars(item)) for item in audit.results]


def candidate_columns(audit: Audit) -> list[str]:
    """Columns of :func:`candidate_rows`: those of what the search measured depend on the search."""
    measured = [name for name in audit.measures if name != "macs"]
    return [
        *("trial", "stratum", "macs", "macs_share"),
        *measured,
        *("rank", "final_rank", "runs", "final_top1", "test_top1", "test_top1_std"),
    ]


def candidate_rows(audit: Audit) -> list[dict[str, Any]]:
    """One a candidate with a final accuracy, by size; ranks are within the stratum, from 1, averaged where equal."""
    ranks, finals = (_ranks(values, audit.strata) for values in (audit.values(audit.measure), audit.finals))
    return [
        {
            "trial": item.trial,
            "stratum": item.stratum,
            "macs": item.macs,
            "macs_share": item.macs / audit.dense_macs,
            **item.proxies,
            "rank": ranks[row],
            "final_rank": finals[row],
            "runs": len(item.seeds),
            "final_top1": float(np.nanmean(item.top1)),
            "test_top1": item.final,
            "test_top1_std": item.std,
        }
        for row, item in enumerate(audit.usable)
    ]


def in_brackets(interval: Interval) -> str:
    """``0.42 [0.10, 0.70]``, or without an interval where there is none."""
    if not math.isfinite(interval.value):
        return "-"
    value = f"{interval.value:.2f}"
    return f"{value} [{interval.low:.2f}, {interval.high:.2f}]" if math.isfinite(interval.low) else value


def _with_interval(interval: Interval, audit: Audit) -> str:
    if not math.isfinite(interval.low):
        return in_brackets(interval)
    between = f"{interval.low:.2f} to {interval.high:.2f}"
    return f"{interval.value:.2f} ({100 * audit.confidence:.0f} % interval {between})"


def _choices(audit: Audit) -> str:
    """Over the strata, each counting as one choice within a budget."""
    chosen, best, mean = (
        100 * float(np.mean([getattr(item, name) for item in audit.results])) for name in ("chosen", "best", "mean")
    )
    top, shared = (sum(getattr(item, name) for item in audit.results) for name in ("top", "shared"))
    chance = sum(item.top**2 / item.n for item in audit.results)
    middle = min(audit.results, key=lambda item: abs((item.low_macs + item.high_macs) / 2 / audit.dense_macs - 0.5))
    share = 50 * (middle.low_macs + middle.high_macs) / audit.dense_macs
    return (
        f"Its best of a stratum ended at {chosen:.2f} % on average, the sample's best at {best:.2f} %, a choice at "
        f"random at {mean:.2f} % (at about {share:.0f} % of the MACs: {100 * middle.chosen:.2f}, "
        f"{100 * middle.best:.2f} and {100 * middle.mean:.2f} %). Of the best {top} by both, {shared} are the same; "
        f"chance would give {chance:.1f}."
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _ranks(values: np.ndarray, strata: np.ndarray) -> list[float]:
    """1: the best of its stratum."""
    found = []
    for value, stratum in zip(values, strata, strict=True):
        mine = values[strata == stratum]
        found.append(float((mine > value).sum() + ((mine == value).sum() + 1) / 2))
    return found


def measure_label(audit: Audit, name: str) -> str:
    """A measure for people: what the search ranked by is marked."""
    text = "MACs alone" if name == "macs" else describe(name).label if describe(name).label != name else name
    return f"{text} (ranked by)" if name == audit.measure else text
