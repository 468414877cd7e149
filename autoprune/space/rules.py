"""Rules by name pattern: which groups are searched, and which widths each may take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from autoprune.config.schema import RuleConfig
from autoprune.errors import ConfigError, did_you_mean
from autoprune.types import ChannelGroup

__all__ = ["Applied", "allowed_widths", "apply_rules", "check_rules"]


@dataclass(frozen=True)
class Applied:
    """What all rules together say of one group; for each key the last matching rule that names it wins."""

    exclude: bool = False
    excluded_by: str = ""
    """Pattern of the rule that decided ``exclude``."""
    multiple: int = 1
    floor: float = 1.0


def apply_rules(name: str, rules: Iterable[RuleConfig]) -> Applied:
    """The outcome for one group.

    >>> apply_rules("layer1.0", [RuleConfig(multiple=8), RuleConfig(match="layer1.*", floor=0.5)])
    Applied(exclude=False, excluded_by='', multiple=8, floor=0.5)
    """
    outcome: dict[str, object] = {}
    for rule in rules:
        if fnmatchcase(name, rule.match):
            if rule.exclude is not None:
                outcome |= {"exclude": rule.exclude, "excluded_by": rule.match if rule.exclude else ""}
            if rule.multiple is not None:
                outcome["multiple"] = rule.multiple
            if rule.floor is not None:
                outcome["floor"] = rule.floor
    return Applied(**outcome)  # type: ignore[arg-type]


def allowed_widths(group: ChannelGroup, applied: Applied) -> tuple[int, ...]:
    """Widths in channels, ascending: multiples of both the rule's and the group's unit from the floor up, and full.

    >>> allowed_widths(ChannelGroup("conv", 20, ()), Applied(multiple=8, floor=0.25))
    (8, 16, 20)
    """
    step = math.lcm(applied.multiple, group.unit)
    # 0.3 * 10 is 3.0000000000000004 in floats: a floor of 30 % of 10 channels must still be 3
    share = applied.floor * group.channels * (1 - 1e-12) if applied.floor < 1 else applied.floor
    lowest = min(max(1, math.ceil(share)), group.channels)
    first = math.ceil(lowest / step) * step
    return (*range(first, group.channels, step), group.channels)


def check_rules(rules: Sequence[RuleConfig], names: Sequence[str]) -> None:
    """Raises ConfigError for a rule whose pattern matches no group: it is nearly always a typing mistake."""
    for rule in rules:
        if not any(fnmatchcase(name, rule.match) for name in names):
            raise ConfigError(
                f"rule match {rule.match!r} matches none of the {len(names)} groups.", did_you_mean(rule.match, names)
            )
