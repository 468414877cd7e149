"""Prometheus' text format: families of numbers, each with its type and what it means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["MEDIA_TYPE", "Family", "histogram", "text"]

MEDIA_TYPE = "text/plain; version=0.0.4"

Labels = Mapping[str, object]


class Family:
    """One metric: ``counter`` (only grows), ``gauge`` (a state) or ``histogram``; all its labels in one place."""

    def __init__(self, name: str, kind: str, means: str) -> None:
        self.name = f"autoprune_{name}"
        self.kind, self.means = kind, means
        self._samples: list[tuple[str, Labels, float]] = []

    def add(self, value: float, ending: str = "", **labels: object) -> Family:
        self._samples.append((f"{self.name}{ending}", labels, value))
        return self

    def lines(self) -> Iterable[str]:
        yield f"# HELP {self.name} {self.means}"
        yield f"# TYPE {self.name} {self.kind}"
        for name, labels, value in self._samples:
            shown = ",".join(f'{key}="{_escaped(str(label))}"' for key, label in labels.items())
            yield f"{name}{{{shown}}} {_number(value)}" if shown else f"{name} {_number(value)}"


def histogram(name: str, means: str, bounds: Sequence[float], classes: Sequence[int], total: float) -> Family:
    """``classes``: how many lie in each class up to its bound, and at last beyond; ``total``: the sum of all."""
    family, below = Family(name, "histogram", means), 0
    for bound, count in zip((*bounds, math.inf), classes, strict=True):
        below += count
        family.add(below, "_bucket", le="+Inf" if math.isinf(bound) else f"{bound:g}")
    return family.add(total, "_sum").add(below, "_count")


def text(families: Iterable[Family]) -> str:
    """All of them as one page."""
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return f"{value:.15g}"
