"""Tables and a figure of what criteria_compared.py measured.

    python tests/benchmarks/criteria_compared_report.py trials.jsonl... finetuned.jsonl... --out DIR

Writes criteria.csv, reconstructions.csv, trials.csv, finetuned.csv, table.md and top1.png. Figures are points of top1;
+- is the standard deviation over draws of the training images. Intervals are 95 % by Student's t over the candidates
(draws averaged first), so they speak of other widths of this network, not of other networks.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from autoprune.analysis.plots import PAPER
from autoprune.analysis.rethinking import Tau, kendall

DEFAULT = "group_l2"
Row = dict[str, Any]
Means = dict[str, np.ndarray]
"""Candidate (with its place in the comparison) -> top1 in %, one a draw."""


def read(paths: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Trials without training, and fine-tuned ones; what several files have counts once."""
    lines = [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]
    measured = ("top1", "before", "seconds")
    rows = list({json.dumps([row[name] for name in row if name not in measured]): row for row in lines}.values())
    return [row for row in rows if "schedule" not in row], [row for row in rows if "schedule" in row]


def by_candidate(rows: Sequence[Row]) -> Means:
    found: dict[str, list[float]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["draw"]):
        found[f"{row['budget']} {row['widths']} {row['candidate']}"].append(100 * row["top1"])
    return {name: np.array(values) for name, values in found.items()}


def difference(first: Means, second: Means) -> tuple[float, float]:
    """Mean over the shared candidates, and half of its 95 % interval."""
    shared = [name for name in first if name in second]
    gains = np.array([first[name].mean() - second[name].mean() for name in shared])
    if len(gains) < 2:
        return float(gains.mean()), float("nan")
    return float(gains.mean()), float(stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))


def overall(values: Means) -> float:
    return float(np.mean([each.mean() for each in values.values()]))


def spread(values: Means) -> float:
    """Of the mean over the candidates, from draw to draw."""
    draws = min(len(each) for each in values.values())
    return float(np.std(np.mean([each[:draws] for each in values.values()], axis=0), ddof=1)) if draws > 1 else np.nan


def criteria_rows(trials: Sequence[Row], tuned: Mapping[str, float]) -> list[Row]:
    """One a criterion, without reconstruction; the best first."""
    plain = [row for row in trials if row["reconstruction"] == "none"]
    values = {name: by_candidate([row for row in plain if row["criterion"] == name]) for name in criteria_of(plain)}
    best = max(values, key=lambda name: overall(values[name]))
    found = []
    for name, each in sorted(values.items(), key=lambda item: -overall(item[1])):
        row: Row = {"network": plain[0]["network"], "criterion": name, "top1": overall(each), "draws_std": spread(each)}
        for budget in sorted({item["budget"] for item in plain}, reverse=True):
            for kind in ("uniform", "searched"):
                some = {place: top1 for place, top1 in each.items() if place.startswith(f"{budget} {kind}")}
                row[f"{budget:.0%} {kind}".replace("%", " %")] = overall(some) if some else float("nan")
        row["over_default"], row["over_default_half"] = difference(each, values[DEFAULT])
        row["behind_best"], row["behind_best_half"] = difference(each, values[best])
        row |= tau_columns(each, tuned)
        found.append(row)
    return found


def tau_columns(values: Means, tuned: Mapping[str, float]) -> Row:
    shared = {name.rpartition(" ")[2]: float(top1.mean()) for name, top1 in values.items()}
    known = [name for name in shared if name in tuned]
    tau: Tau = kendall([shared[name] for name in known], [tuned[name] for name in known])
    return {"tau": tau.tau, "tau_low": tau.low, "tau_high": tau.high, "tau_candidates": tau.n}


def criteria_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["criterion"] for row in rows))


def reconstruction_rows(trials: Sequence[Row]) -> list[Row]:
    """One a criterion, over the candidates and draws that all criteria have in each of their reconstructions.

    ``over default``: with this reconstruction, over the default criterion with the same, on all that both have.
    """
    kinds = list(dict.fromkeys(row["reconstruction"] for row in trials))

    def chosen(name: str, kind: str) -> list[Row]:
        return [row for row in trials if (row["criterion"], row["reconstruction"]) == (name, kind)]

    def keys(rows: Sequence[Row]) -> set[tuple[Any, ...]]:
        return {(row["candidate"], row["widths"], row["budget"], row["draw"]) for row in rows}

    table = {(name, kind): chosen(name, kind) for name in criteria_of(trials) for kind in kinds}
    shared = set.intersection(*(keys(rows) for rows in table.values() if rows))
    found = []
    for name in criteria_of(trials):
        line: Row = {"network": trials[0]["network"], "criterion": name, "trials": len(shared)}
        common = {kind: [row for row in table[name, kind] if keys([row]) <= shared] for kind in kinds}
        for kind in kinds:
            line[kind] = overall(by_candidate(common[kind])) if common[kind] else float("nan")
            if kind != "none":
                line |= _compared(f"{kind}: gain", common[kind], common["none"])
                line |= _compared(f"{kind}: over default", table[name, kind], table[DEFAULT, kind])
        found.append(line)
    return sorted(found, key=lambda line: -line[max(kinds, key=lambda kind: np.nan_to_num(line[kind]))])


def _compared(title: str, first: Sequence[Row], second: Sequence[Row]) -> Row:
    middle, half = difference(by_candidate(first), by_candidate(second)) if first and second else (np.nan, np.nan)
    return {title: float(middle), f"{title} half": float(half)}


def taus_by_kind(trials: Sequence[Row], tuned: Mapping[str, float]) -> str:
    """Kendall's tau to the fine-tuned accuracy by reconstruction: mean over the criteria, and that of the default."""
    texts = []
    for kind in dict.fromkeys(row["reconstruction"] for row in trials):
        rows = [row for row in trials if row["reconstruction"] == kind]
        taus = {
            name: tau_columns(by_candidate([row for row in rows if row["criterion"] == name]), tuned)
            for name in criteria_of(rows)
        }
        mean = np.mean([row["tau"] for row in taus.values()])
        own = taus.get(DEFAULT, {"tau": float("nan"), "tau_candidates": 0})
        texts.append(f"{kind} {mean:.2f} ({DEFAULT} {own['tau']:.2f}, {own['tau_candidates']} candidates)")
    return ", ".join(texts)


def seconds(trials: Sequence[Row]) -> dict[str, float]:
    """Reconstruction -> median processor seconds of a trial, over the same criteria and candidates as all have."""
    kinds = dict.fromkeys(row["reconstruction"] for row in trials)
    return {
        kind: float(np.median([row["seconds"] for row in trials if row["reconstruction"] == kind])) for kind in kinds
    }


def figure(tables: Mapping[str, list[Row]]) -> Figure:
    """Difference from the default, without reconstruction, with its interval."""
    most = max(map(len, tables.values()))
    drawn = Figure(figsize=(5.2 * len(tables), 0.3 * most + 1.4), layout="constrained")
    FigureCanvasAgg(drawn)
    for place, (name, rows) in enumerate(tables.items(), start=1):
        axes: Any = drawn.add_subplot(1, len(tables), place)
        for height, row in enumerate(reversed(rows)):
            middle, half = row["over_default"], row["over_default_half"]
            sure = abs(middle) > half
            colour = PAPER.muted if not sure else PAPER.accent if middle > 0 else PAPER.uniform
            axes.plot([middle - half, middle + half], [height] * 2, color=colour, lw=2, alpha=0.55)
            axes.plot([middle], [height], "o", color=colour, ms=6)
        axes.axvline(0, color=PAPER.ink, lw=1)
        axes.set_yticks(range(len(rows)), [row["criterion"] for row in reversed(rows)])
        axes.grid(True, axis="x", color=PAPER.grid, lw=0.8)
        axes.tick_params(labelsize=9, length=0)
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_xlabel(f"points of top1 beyond {DEFAULT}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return drawn


def markdown(table: Sequence[Row], pairs: Mapping[str, str], leave: Sequence[str]) -> str:
    """A table whose columns ``pairs`` are shown with the half width that another column has."""
    names = [name for name in table[0] if name not in leave and name not in pairs.values()]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in table:
        cells = [shown(row, name, pairs.get(name)) for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(row: Row, name: str, half: str | None) -> str:
    value = row[name]
    if not isinstance(value, float):
        return str(value)
    if not np.isfinite(value):
        return "-"
    signed = "+" if half and name != "top1" else ""
    text = f"{value:{signed}.2f}"
    return f"{text} +- {row[half]:.2f}" if half and np.isfinite(row[half]) else text


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    trials, finetuned = read(arguments.files)
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    tables, fitted, text = {}, [], []
    for network in dict.fromkeys(row["network"] for row in trials):
        own = [row for row in trials if row["network"] == network]
        ends = by_candidate([row for row in finetuned if row["network"] == network])
        tuned = {name.rpartition(" ")[2]: float(top1.mean()) for name, top1 in ends.items()}
        tables[network] = criteria_rows(own, tuned)
        rows = reconstruction_rows(own)
        fitted += rows
        pairs = {"top1": "draws_std", "over_default": "over_default_half", "behind_best": "behind_best_half"}
        leave = ("network", "tau_low", "tau_high", "tau_candidates")
        gains = {name: f"{name} half" for name in rows[0] if name.endswith(("gain", "over default"))}
        times = ", ".join(f"{kind} {value:.2f} s" for kind, value in seconds(own).items())
        text += [f"## {network}", "", markdown(tables[network], pairs, leave), ""]
        text += [markdown(rows, gains, ("network",)), "", f"Processor time of a trial (median): {times}.", ""]
        if tuned:
            text += [f"Kendall's tau by reconstruction, mean over the criteria: {taus_by_kind(own, tuned)}.", ""]
    write_csv(folder / "criteria.csv", [row for rows in tables.values() for row in rows])
    write_csv(folder / "reconstructions.csv", fitted)
    write_csv(folder / "trials.csv", trials)
    write_csv(folder / "finetuned.csv", finetuned)
    (folder / "table.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    figure(tables).savefig(folder / "top1.png", dpi=130)


if __name__ == "__main__":
    main()
