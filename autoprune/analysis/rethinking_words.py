"""A comparison in sentences, each no stronger than its interval, and as rows of tables."""

from __future__ import annotations

import math
from typing import Any

from autoprune.analysis.metrics import format_count
from autoprune.analysis.rethinking import ArmRuns, Comparison, Difference, Subject

__all__ = ["COLUMNS", "DIFFERENCES", "audit", "conventions", "differences", "rows", "run_rows", "verdicts"]

COLUMNS = (
    "subject",
    "macs",
    "macs_share",
    "arm",
    "epochs",
    "runs",
    "diverged",
    "top1",
    "top1_std",
    "test_top1",
    "test_top1_std",
    "training_macs",
    "total_macs",
    "seconds",
)
DIFFERENCES = (
    "subject",
    "first",
    "second",
    "n",
    "mean",
    "std",
    "low",
    "high",
    "bootstrap_low",
    "bootstrap_high",
    "clear",
    "epochs_ratio",
    "compute_ratio",
)


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One a subject and arm, under ``COLUMNS``; accuracies are fractions."""
    found = []
    for subject in comparison.subjects:
        for item in comparison.of(subject.name):
            found.append(
                {
                    "subject": subject.name,
                    "macs": subject.macs,
                    "macs_share": subject.macs / comparison.dense_macs,
                    "arm": item.arm,
                    "epochs": item.epochs,
                    "runs": len(item.seeds),
                    "diverged": item.diverged,
                    "top1": item.mean("top1"),
                    "top1_std": item.std("top1"),
                    "test_top1": item.mean(),
                    "test_top1_std": item.std(),
                    "training_macs": item.training_macs,
                    "total_macs": comparison.total_macs(item),
                    "seconds": float(item.seconds.mean()),
                }
            )
    return found


def run_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One a run."""
    return [
        {
            "subject": item.subject,
            "arm": item.arm,
            "seed": seed,
            "epochs": item.epochs,
            "top1": float(item.top1[place]),
            "test_top1": float(item.test_top1[place]),
            "training_macs": item.training_macs,
            "seconds": float(item.seconds[place]),
        }
        for item in comparison.results
        for place, seed in enumerate(item.seeds)
    ]


def differences(comparison: Comparison) -> list[dict[str, Any]]:
    """Every arm with weights of the base against every new start, of each candidate, under ``DIFFERENCES``."""
    found = []
    for subject in comparison.candidates:
        arms = comparison.of(subject.name)
        for first in (item for item in arms if item.start != "scratch"):
            for second in (item for item in arms if item.start == "scratch"):
                values = comparison.compared(first, second)
                compute = comparison.total_macs(first) / comparison.total_macs(second)
                ratios = {"epochs_ratio": first.epochs / second.epochs, "compute_ratio": compute}
                found.append({"subject": subject.name, **vars(values), "clear": values.clear, **ratios})
    return found


def verdicts(comparison: Comparison) -> list[str]:
    """For each candidate, what its intervals support."""
    return [_verdict(comparison, subject) for subject in comparison.candidates]


def _verdict(comparison: Comparison, subject: Subject) -> str:
    if len(comparison.seeds) < 2:
        return f"{subject.name}: one seed, so no claim can be made."
    parts = []
    epochs = comparison.equal_epochs(subject.name)
    if epochs is not None:
        parts.append(_claim("inheriting", comparison.compared(*epochs), "at equal epochs", *epochs))
    compute = comparison.equal_compute(subject.name)
    if compute is not None:
        parts.append(_claim("inheriting", comparison.compared(*compute), "at equal compute", *compute))
    elif any(item.inherits for item in comparison.of(subject.name)):
        parts.append("no two arms had equal compute, with the base model's training counted")
    parts += _initial(comparison, subject) + _references(comparison, subject)
    share = 100 * subject.macs / comparison.dense_macs
    return f"{subject.name} ({share:.0f} % of the MACs): {'; '.join(parts)}."


def _initial(comparison: Comparison, subject: Subject) -> list[str]:
    """The base model's initial weights against new ones, at equal epochs."""
    arms = {item.arm: item for item in comparison.of(subject.name)}
    if "rewind" not in arms or "scratch_e" not in arms:
        return []
    pair = (arms["rewind"], arms["scratch_e"])
    return [_claim("the base model's initial weights", comparison.compared(*pair), "over new ones", *pair)]


def _references(comparison: Comparison, subject: Subject) -> list[str]:
    """The search's widths against others of equal MACs, trained alike."""
    found = []
    for other in (item for item in comparison.subjects if item.of == subject.name):
        if dict(other.widths) == dict(subject.widths):
            found.append("its widths are " + ("uniform" if other.role == "uniform" else "the best of random search"))
            continue
        theirs = {item.arm: item for item in comparison.of(other.name)}
        for mine in comparison.of(subject.name):
            if mine.arm in theirs:
                values = comparison.compared(mine, theirs[mine.arm])
                what = "uniform widths" if other.role == "uniform" else "the best of random search"
                found.append(_claim("its widths", values, f"over {what} at equal MACs", mine))
    return found


def _claim(what: str, values: Difference, where: str, *pair: ArmRuns) -> str:
    against = " against ".join(item.arm for item in pair)
    if not math.isfinite(values.low):
        return f"{what} {where}: too few runs to say ({against})"
    size, margin = 100 * values.mean, 100 * values.margin
    if not values.clear:
        return f"{where} no difference was found for {what} ({size:+.1f} +- {margin:.1f} points, {against})"
    verb = ("help" if size > 0 else "hurt") + ("" if what.endswith("s") else "s")
    return f"{what} {verb} by {abs(size):.1f} +- {margin:.1f} points {where} ({against})"


def audit(comparison: Comparison) -> str:
    """Kendall's tau in a sentence, with its warning."""
    tau = comparison.tau
    if not math.isfinite(tau.tau):
        return tau.warning
    text = (
        f"Kendall's tau between the search's accuracy and final test accuracy ({comparison.audit_arm}): {tau.tau:.2f}, "
        f"{100 * comparison.confidence:.0f} % interval {tau.low:.2f} to {tau.high:.2f}, {tau.n} architectures."
    )
    return f"{text} Warning: {tau.warning}" if tau.warning else text


def conventions(comparison: Comparison) -> list[str]:
    """What the numbers mean, for every output."""
    base = format_count(comparison.base_training_macs)
    return [
        "Accuracies are of the last epoch; test images were opened once a run, after it, and decided nothing: what was "
        "chosen was chosen by search-val. Means +- standard deviations of a single run over "
        f"{len(comparison.seeds)} seeds; after a difference, +- is half of its {100 * comparison.confidence:.0f} % "
        "interval (Student's t, runs paired by seed, not corrected for the number of comparisons).",
        "All inheriting runs start from one base model: their spread is that of their training, not of the base's.",
        "Training MACs are 3 x the MACs of a forward pass (convolutions and linear layers) x images x epochs; scoring "
        f"is not counted. The base model's training took {base} ({comparison.base_epochs} epochs); 'total' adds it to "
        "arms that start from its weights.",
    ]
