"""Where bfloat16 pays: processors that multiply it natively."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

__all__ = ["autocast_dtype", "has_native_bfloat16"]

# x86 (AVX-512, AMX) and ARM, as Linux names them.
_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
_KEYS = ("flags", "features")


@cache
def has_native_bfloat16(device_type: str) -> bool:
    """Whether the processor multiplies bfloat16 in hardware; emulation is several times slower than float32."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    listed = (line.partition(":") for line in text.splitlines())
    return any(not _FLAGS.isdisjoint(flags.split()) for key, _, flags in listed if key.strip().lower() in _KEYS)


def autocast_dtype(wanted: str, device_type: str) -> torch.dtype | None:
    """The dtype for autocast, or None for plain float32. ``wanted`` is ``auto``, ``float32`` or ``bfloat16``."""
    if wanted == "bfloat16" or (wanted == "auto" and has_native_bfloat16(device_type)):
        return torch.bfloat16
    return None
