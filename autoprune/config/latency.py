"""Where a search's ``latency_ms`` comes from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

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
    compiled: bool = False
    """Through ``torch.compile``: about twenty networks are then compiled, which takes seconds to a minute each."""
    levels: int = Field(7, ge=2, le=13)
    """Widths of each group that are tried against each other; about the square of it is the number of networks."""
    rounds: int = Field(3, ge=1)

    @model_serializer(mode="wrap")
    def _content(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``compiled`` where it is off, so that searches from before there was this key keep their digest."""
        content: dict[str, Any] = handler(self)
        if not self.compiled:
            content.pop("compiled", None)
        return content


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
