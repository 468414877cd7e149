"""A comparison of controllers as files: table.csv, curves.csv, table.md and figures."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.analysis.controller_benchmark import ArmResult, ControllerBenchmark, Setting
from autoprune.files import replacing, write_text

__all__ = ["COLUMNS", "cells", "headings", "notes", "rows", "write_report"]

COLUMNS = (
    *("setting", "arm", "score", "score_std", "gain", "gain_low", "gain_high", "wins", "rank"),
    *("reached", "reached_seeds", "test_top1", "test_top1_std", "proposal_ms", "evaluation_ms", "evaluations", "again"),
    *("own_score", "own_score_std"),
)


def rows(benchmark: ControllerBenchmark) -> list[dict[str, Any]]:
    """One mapping a setting and arm with the keys ``COLUMNS``, best first; a number that does not exist is None."""
    content = [asdict(item) for item in benchmark.results]
    return [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in content
    ]


def headings(benchmark: ControllerBenchmark, setting: Setting) -> list[str]:
    """Of ``cells``."""
    test = ["test top1"] if _has_test(benchmark, setting) else []
    return [
        *("arm", setting.measure, *test, "over random (95 %)", "wins", "rank"),
        *("to random's end", "ms a proposal", "ms an evaluation"),
    ]


def cells(benchmark: ControllerBenchmark, setting: Setting, item: ArmResult) -> list[str]:
    """One arm's row for people."""
    scale, digits = (1.0, 4) if setting.is_front else (100.0, 2)

    def shown(value: float, sign: str = "") -> str:
        return f"{scale * value:{sign}.{digits}f}"

    test = [f"{100 * item.test_top1:.2f} ± {100 * item.test_top1_std:.2f}"] if _has_test(benchmark, setting) else []
    gain = f"{shown(item.gain, '+')} ({shown(item.gain_low, '+')} to {shown(item.gain_high, '+')})"
    reached = "-" if math.isnan(item.reached) else f"{item.reached:.0f}"
    reached += f" ({item.reached_seeds} of {benchmark.seeds})" if item.reached_seeds < benchmark.seeds else ""
    return [
        item.arm + ("*" if item.arm in benchmark.own_weights else ""),
        f"{shown(item.score)} ± {shown(item.score_std)}",
        *test,
        "" if item.arm == "random" else gain,
        "" if item.arm == "random" else f"{item.wins} of {benchmark.seeds}",
        f"{item.rank:.1f}",
        reached,
        f"{item.proposal_ms:.1f}",
        f"{item.evaluation_ms:.0f}",
    ]


def notes(benchmark: ControllerBenchmark) -> list[str]:
    """What the numbers mean."""
    found = [
        f"{benchmark.seeds} seeds, {benchmark.trials} trials a run, {benchmark.parallel} simulated worker(s), the same "
        "for every arm; mean ± standard deviation over the seeds. A trial that repeats a candidate counts as a trial.",
        "top1 (%) is measured on search-val images, on which the arms also choose: it flatters the chosen"
        + (
            "; test top1 is that of each run's best candidate, measured once at the end."
            if _any_test(benchmark)
            else "."
        ),
        "hypervolume: share of the box between the reference ("
        + "; ".join(f"{item.name}: {_corner(item)}" for item in benchmark.settings if item.is_front)
        + ") and top1 100 %, cost 0. The unpruned model is in no curve.",
        "over random: difference to random search with the same seed, 95 % interval by Student's t; to random's end: "
        "median number of trials to the mean final score of random search.",
        "ms a proposal: processor time of the controller; ms an evaluation: recorded wall time.",
    ]
    if not any(item.is_front for item in benchmark.settings):
        del found[2]
    for arm, weights in benchmark.own_weights.items():
        again = max(item.again for item in benchmark.results if item.arm == arm)
        found.append(
            f"* {arm} searches by its own weights ({weights}); what is judged are the candidates that ever were on its "
            f"front, measured once more as everybody's (up to {again:.0f} further evaluations a run). "
            "Training beforehand is not counted."
        )
    return found


def write_report(benchmark: ControllerBenchmark, folder: Path) -> list[Path]:
    """Write ``table.csv``, ``curves.csv``, ``table.md``, ``gains.png`` and ``curves-<setting>.png``; returns the paths.

    Raises OSError when the folder cannot be made, StoreError when a file cannot be written.
    """
    from autoprune.analysis.controller_plot import curves_figure, gains_figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "table.csv", folder / "curves.csv", folder / "table.md", folder / "gains.png"]
    _write_csv(paths[0], COLUMNS, [{key: _short(value) for key, value in row.items()} for row in rows(benchmark)])
    _write_csv(paths[1], ("setting", "arm", "trials", "mean", "low", "high"), _curve_rows(benchmark))
    write_text(paths[2], _markdown(benchmark))
    with replacing(paths[3], durable=False) as temporary:
        gains_figure(benchmark).savefig(temporary, dpi=130)
    for setting in benchmark.settings:
        paths.append(folder / f"curves-{setting.name}.png")
        with replacing(paths[-1], durable=False) as temporary:
            curves_figure(benchmark, setting).savefig(temporary, dpi=130)
    return paths


def _write_csv(path: Path, columns: tuple[str, ...], content: list[dict[str, Any]]) -> None:
    with replacing(path, durable=False) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(content)


def _curve_rows(benchmark: ControllerBenchmark) -> list[dict[str, Any]]:
    """Mean, least and largest over the seeds, where any of them changes."""
    found = []
    for setting in benchmark.settings:
        for arm in benchmark.arms_in(setting):
            curves = benchmark.curves(setting, arm)
            changes = np.any(np.diff(curves, axis=1, prepend=-1.0) != 0, axis=0)
            for at in np.flatnonzero(changes):
                column = curves[:, at]
                numbers = {"mean": column.mean(), "low": column.min(), "high": column.max()}
                shown = {name: f"{value:.6f}" for name, value in numbers.items()}
                found.append({"setting": setting.name, "arm": arm, "trials": int(at) + 1, **shown})
    return found


def _markdown(benchmark: ControllerBenchmark) -> str:
    lines = [f"# {benchmark.name}", ""]
    lines += [f"- {text}" for text in benchmark.verdicts()] + [""]
    for setting in benchmark.settings:
        titles = headings(benchmark, setting)
        lines += [f"## {setting.name}: {setting}", "", _line(titles), _line(["---"] * len(titles))]
        found = [item for item in benchmark.results if item.setting == setting.name]
        lines += [_line(cells(benchmark, setting, item)) for item in found] + [""]
    lines += [*(f"- {text}" for text in notes(benchmark)), ""]
    lines += ["Arms: " + "; ".join(f"{name} ({text})" for name, text in benchmark.arms.items()) + "."]
    return "\n".join(lines) + "\n"


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _has_test(benchmark: ControllerBenchmark, setting: Setting) -> bool:
    return any(math.isfinite(item.test_top1) for item in benchmark.results if item.setting == setting.name)


def _any_test(benchmark: ControllerBenchmark) -> bool:
    return any(_has_test(benchmark, setting) for setting in benchmark.settings)


def _corner(setting: Setting) -> str:
    return ", ".join(
        f"{item.metric} {worst:,.0f}" if worst else f"{item.metric} 0"
        for item, worst in zip(setting.objectives, setting.reference, strict=True)
    )
