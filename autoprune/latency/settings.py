"""How a network is run when it is timed."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.errors import ConfigError

__all__ = ["LatencySettings"]

_DTYPES = ("float32", "bfloat16", "float16")
_CLOCKS = ("wall", "cpu")


@dataclass(frozen=True)
class LatencySettings:
    """Stored with every figure. Raises ConfigError for values that make no sense together."""

    batch: int = 1
    threads: int = 1
    dtype: str = "float32"
    """``float32``, ``bfloat16`` or ``float16``."""
    channels_last: bool = False
    device: str = "cpu"
    clock: str = "wall"
    """``wall``, or ``cpu``: the time that the one thread spends on the processor, for machines that are not quiet."""
    compiled: bool = False
    """Through ``torch.compile``."""

    def __post_init__(self) -> None:
        for name in ("batch", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name, known in (("dtype", _DTYPES), ("clock", _CLOCKS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.clock == "cpu" and (self.threads > 1 or self.device != "cpu"):
            raise ConfigError("the cpu clock counts one thread of this processor.", "Use --clock wall.")

    def __str__(self) -> str:
        layout = "channels-last" if self.channels_last else "contiguous"
        words = f"batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}, {self.dtype}, {layout}"
        return words + (", compiled" if self.compiled else "") + (", processor time" if self.clock == "cpu" else "")
