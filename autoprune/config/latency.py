"""Where a search's ``latency_ms`` comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from autoprune.config.strict import Strict

__all__ = ["LatencyConfig", "LatencyMeasure"]


class LatencyMeasure(Strict):
    """How networks are run when their latency is measured."""

    batch: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    device: str = "cpu"
    """Or ``cuda``, ``cuda:1``..."""
    clock: Literal["wall", "cpu"] = "wall"
    """``cpu``: time on the processor instead, for one thread on a machine that is not quiet."""
    levels: int = Field(7, ge=2, le=13)
    """Widths of each group that are tried against each other; about the square of it is the number of networks."""
    rounds: int = Field(3, ge=1)


class LatencyConfig(Strict):
    """Makes ``latency_ms`` a metric of the widths, predicted from a table: exactly one of the two keys."""

    table: str | None = None
    """A file of ``autoprune latency-table``, made on the target device."""
    measure: LatencyMeasure | None = None
    """``{}``: make the table on this machine before the first trial, and keep it in the cache."""

    @model_validator(mode="after")
    def _one(self) -> LatencyConfig:
        if (self.table is None) == (self.measure is None):
            raise ValueError("latency needs either 'table: FILE' or 'measure: {}', and not both")
        return self
