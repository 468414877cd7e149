"""A comparison in sentences, each no stronger than its interval, and as rows of tables."""

from __future__ import annotations

import math
from typing import Any

from autoprune.analysis.metrics import format_count
from autoprune.analysis.rethinking import ArmRuns, Comparison, Subject

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
    """Under ``DIFFERENCES``, of each candidate: every arm with weights of the base against every new start, and every
    arm against the same arm with uniform widths or random search's best."""
    found = []
    for subject in comparison.candidates:
        arms = comparison.of(subject.name)
        pairs = [(a, b, b.arm) for a in arms if a.start != "scratch" for b in arms if b.start == "scratch"]
        for other in (item for item in comparison.subjects if item.of == subject.name):
            theirs = {item.arm: item for item in comparison.of(other.name)}
            pairs += [(a, theirs[a.arm], f"{other.role} widths: {a.arm}") for a in arms if a.arm in theirs]
        for first, second, label in pairs:
            values = comparison.compared(first, second)
            compute = comparison.total_macs(first) / comparison.total_macs(second)
            ratios = {"epochs_ratio": first.epochs / second.epochs, "compute_ratio": compute}
            row = {"subject": subject.name, **vars(values), "clear": values.clear, **ratios}
            found.append({**row, "second": label})
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
        parts.append(_claim("inheriting", "helps", "hurts", comparison, *epochs, where="at equal epochs"))
    compute = comparison.equal_compute(subject.name)
    if compute is not None:
        parts.append(_claim("inheriting", "helps", "hurts", comparison, *compute, where="at equal compute"))
    elif any(item.inherits for item in comparison.of(subject.name)):
        parts.append("no two arms had equal compute, with the base model's training counted")
    parts += _other_starts(comparison, subject) + _references(comparison, subject)
    share = 100 * subject.macs / comparison.dense_macs
    return f"{subject.name} ({share:.0f} % of the MACs): {'; '.join(parts)}."


_OTHERS = {"initial": "the base model's initial weights", "hypernet": "the hypernetwork's weights"}


def _other_starts(comparison: Comparison, subject: Subject) -> list[str]:
    """Weights that are neither trained nor new against new ones, at equal epochs."""
    arms = comparison.of(subject.name)
    found = []
    for scratch in (item for item in arms if item.arm == "scratch_e"):
        for mine in (item for item in arms if item.start in _OTHERS and item.epochs == scratch.epochs):
            what = _OTHERS[mine.start]
            where = f"between {what} and new ones"
            found.append(_claim(what, "beat new ones", "lose to new ones", comparison, mine, scratch, where=where))
    return found


def _references(comparison: Comparison, subject: Subject) -> list[str]:
    """The search's widths against others of equal MACs, trained alike: by an inheriting arm where there is one."""
    found = []
    for other in (item for item in comparison.subjects if item.of == subject.name):
        if dict(other.widths) == dict(subject.widths):
            found.append("its widths are " + ("uniform" if other.role == "uniform" else "the best of random search"))
            continue
        what = "uniform widths" if other.role == "uniform" else "random search's best"
        theirs = {item.arm: item for item in comparison.of(other.name)}
        alike = [item for item in comparison.of(subject.name) if item.arm in theirs]
        if alike:
            mine = max(alike, key=lambda item: item.inherits)
            where = f"to {what} at {'equal' if other.role == 'uniform' else 'about equal'} MACs"
            pair = (mine, theirs[mine.arm])
            found.append(_claim("it", f"beats {what}", f"loses to {what}", comparison, *pair, where=where))
    return found


def _claim(
    what: str, better: str, worse: str, comparison: Comparison, first: ArmRuns, second: ArmRuns, *, where: str
) -> str:
    """``where`` says in "no difference ..." between what; after a claim it stands where it is a condition."""
    values = comparison.compared(first, second)
    arms = first.arm if first.arm == second.arm else f"{first.arm} against {second.arm}"
    if not math.isfinite(values.low):
        return f"too few runs to tell a difference {where} ({arms})"
    size, margin = 100 * values.mean + 0.0, 100 * values.margin
    if not values.clear:
        return f"no difference was found {where} ({size:+.2f} +- {margin:.2f} points, {arms})"
    condition = f" {where}" if where.startswith("at ") else ""
    return f"{what} {better if size > 0 else worse} by {abs(size):.2f} +- {margin:.2f} points{condition} ({arms})"


def audit(comparison: Comparison) -> str:
    """Kendall's tau in a sentence, with its warning."""
    tau = comparison.tau
    if not math.isfinite(tau.tau):
        return tau.warning
    interval = (
        f"{100 * comparison.confidence:.0f} % interval {tau.low:.2f} to {tau.high:.2f}, "
        if math.isfinite(tau.low)
        else ""
    )
    text = (
        f"Kendall's tau between the search's accuracy and final test accuracy ({comparison.audit_arm}): {tau.tau:.2f}, "
        f"{interval}{tau.n} architectures of several sizes, which were not sampled from the search's ranking."
    )
    return f"{text} Warning: {tau.warning}" if tau.warning else text


def conventions(comparison: Comparison) -> list[str]:
    """What the numbers mean, for every output."""
    base = format_count(comparison.base_training_macs)
    hypernet = "" if comparison.hypernet_macs is None else f" {_hypernet(comparison.hypernet_macs)}"
    return [
        "Accuracies are of the last epoch; test images were opened once a run, after it, and decided nothing: what was "
        "chosen was chosen by search-val. Means +- standard deviations of a single run over "
        f"{len(comparison.seeds)} seeds; after a difference, +- is half of its {100 * comparison.confidence:.0f} % "
        "interval (Student's t, runs paired by seed, not corrected for the number of comparisons).",
        "All inheriting runs start from one base model: their spread is that of their training, not of the base's.",
        "Training MACs are 3 x the MACs of a forward pass (convolutions and linear layers) x images x epochs; scoring "
        f"is not counted. The base model's training took {base} ({comparison.base_epochs} epochs); 'total' adds it to "
        f"arms that need it: those that start from its weights, or from its initial ones by its ranking.{hypernet}",
    ]


def _hypernet(macs: float) -> str:
    return (
        f"To the arm hypernet it adds what the hypernetwork took ({format_count(macs)}, the base model's training "
        "counted where it began there), although all candidates share it."
    )
