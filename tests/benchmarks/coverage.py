"""What can be pruned in many models, and whether slicing them is exact.

    python tests/benchmarks/coverage.py --out results/coverage            # every torchvision classifier, 100 timm CNNs
    python tests/benchmarks/coverage.py --out results/coverage torchvision:resnet50 timm:regnety_004

Each model runs in a forked process with a time limit, on one thread; its row is appended to ``rows.jsonl``, so a
run that was cut goes on where it stopped (``--again`` measures anew). Weights are random. Discovery checks groups on
random channels while it looks for them; ``error`` is a second check, of all groups at once at other random widths: the
sliced network against the one whose consumers ignore the cut channels, relative, in float64.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoprune.api.spaces import resolved
from autoprune.cost.trace import trace
from autoprune.models import registry
from autoprune.models.torchvision_source import torchvision_names
from autoprune.pruning.equivalence import max_error
from autoprune.pruning.groups import discover

TIMEOUT_SECONDS = 900
GOAL = 0.5
_FORK = multiprocessing.get_context("fork")  # the libraries are imported once
TOLERANCE = 1e-9


def default_names() -> list[str]:
    """All of torchvision's classifiers, and the list of timm's CNNs beside this file."""
    timm_names = Path(__file__).with_name("coverage_timm.txt").read_text().split()
    return [*(f"torchvision:{name}" for name in torchvision_names()), *(f"timm:{name}" for name in timm_names)]


def measure(name: str) -> dict[str, Any]:
    """One row of the table."""
    torch.manual_seed(0)
    config, shape, classes, _ = resolved(name)
    model = registry.build(config, num_classes=classes, in_channels=shape[0]).eval()
    example = torch.zeros(1, *shape)
    start, cpu = time.perf_counter(), time.process_time()
    found = discover(model, example)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    table = trace(model, example, found.groups)
    rng = np.random.default_rng(1)
    keep = {g.name: np.sort(rng.choice(g.units, rng.integers(1, g.units + 1), replace=False)) for g in found.groups}
    return {
        "model": name,
        "input": "x".join(map(str, shape)),
        "macs": table.baseline["macs"],
        "params": table.baseline["params"],
        "groups": len(found.groups),
        "left_out": dict(found.left_out),
        "prunable": table.prunable,
        "error": max_error(model, found.groups, example, keep) if found.groups else None,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "uncounted": len(table.uncounted),
    }


def run_one(name: str) -> dict[str, Any]:
    """The row, measured in a forked process; a row with ``failure`` when that fails."""
    receive, send = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_send_row, args=(name, send))
    child.start()
    send.close()
    try:
        if not receive.poll(TIMEOUT_SECONDS):
            return {"model": name, "failure": f"took more than {TIMEOUT_SECONDS} s"}
        row: dict[str, Any] = receive.recv()
        return row
    except EOFError:
        return {"model": name, "failure": "the process died (out of memory?)"}
    finally:
        child.kill()
        child.join()


def _send_row(name: str, connection: Connection) -> None:
    warnings.simplefilter("ignore")
    try:
        row = measure(name)
    except Exception as error:  # noqa: BLE001 - the row says what went wrong
        row = {"model": name, "failure": f"{type(error).__name__}: {error}".splitlines()[0]}
    connection.send(row)


def passes(row: dict[str, Any]) -> bool:
    """More than half of the MACs can be pruned, and exactly."""
    return "failure" not in row and row["prunable"] > GOAL and (row["error"] or 0) <= TOLERANCE


def main_cause(row: dict[str, Any]) -> str:
    """The most frequent reason among the groups that are left out, without names of layers."""
    if "failure" in row:
        return str(row["failure"])
    causes = Counter(
        " ".join(word for word in text.partition(" (")[0].split() if "'" not in word)
        for text in row["left_out"].values()
    )
    return causes.most_common(1)[0][0] if causes else ""


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, in the order of the rows."""
    lines = [
        "| model | input | GMACs | groups | left out | prunable MACs | error | s | most frequent reason to leave out |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        if "failure" in row:
            lines.append(f"| {row['model']} | | | | | | | | **failed**: {main_cause(row)} |")
            continue
        share = f"{row['prunable']:.1%}" if row["prunable"] > GOAL else f"**{row['prunable']:.1%}**"
        error = "" if row["error"] is None else f"{row['error']:.0e}"
        lines.append(
            f"| {row['model']} | {row['input']} | {row['macs'] / 1e9:.2f} | {row['groups']} | {len(row['left_out'])} "
            f"| {share} | {error} | {row['cpu_seconds']:.1f} | {main_cause(row)} |"
        )
    return "\n".join(lines) + "\n"


def summary(rows: list[dict[str, Any]]) -> str:
    """How many models of each source reach the goal."""
    parts = []
    for source in ("torchvision", "timm"):
        own = [row for row in rows if row["model"].startswith(source)]
        if own:
            good = sum(passes(row) for row in own)
            parts.append(f"{source}: {good} of {len(own)} with more than half of the MACs prunable, error <= 1e-9")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", help="torchvision:NAME or timm:NAME; none: all")
    parser.add_argument("--out", type=Path, default=Path("results/coverage"))
    parser.add_argument("--again", action="store_true", help="measure what has a row already")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.out / "rows.jsonl"
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    rows = {row["model"]: row for row in known}
    names = arguments.names or default_names()
    for name in names:
        if arguments.again or name not in rows or "failure" in rows[name]:
            rows[name] = run_one(name)
            with log.open("a") as file:
                file.write(json.dumps(rows[name]) + "\n")
            print(table([rows[name]]).splitlines()[-1], flush=True)
    measured = [rows[name] for name in names]
    (arguments.out / "table.md").write_text(summary(measured) + "\n\n" + table(measured))
    print(summary(measured))


if __name__ == "__main__":
    main()
