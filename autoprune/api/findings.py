"""What a check of the machine or of a store says, one finding a thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Finding", "Findings"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: str
    """``ok``, ``warning`` (works, with a drawback) or ``problem``."""
    found: str
    expected: str = ""
    hint: str = ""
    """The next step, where there is one."""
    search: str = ""
    """The search that it concerns; empty: none in particular."""


@dataclass(frozen=True)
class Findings:
    """All of a check."""

    items: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.items if item.status == "problem")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.items if item.status == "warning")

    @property
    def ok(self) -> bool:
        """No problem; there may be warnings."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": [asdict(item) for item in self.items]}

    @classmethod
    def of(cls, items: Iterable[Finding]) -> Findings:
        return cls(tuple(items))
