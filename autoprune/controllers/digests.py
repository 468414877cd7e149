"""Which candidates are known: a set of digests that stays small over a million of them."""

from __future__ import annotations

import numpy as np

__all__ = ["Digests"]

_RECENT = 4096


class Digests:
    """A set of candidates' digests (16 hexadecimal digits): some 20 bytes each, where a set of strings takes 120.

    Recent ones are in a set of integers; now and then, as long as these are few beside the rest, they are sorted into
    an array.

    >>> known = Digests()
    >>> known.add("00000000000000ff"), known.add("00000000000000ff"), "00000000000000ff" in known, len(known)
    (True, False, True, 1)
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted = np.empty(0, np.uint64)

    def add(self, digest: str) -> bool:
        """True when it was not there before."""
        if digest in self:
            return False
        self._recent.add(int(digest, 16))
        if len(self._recent) >= max(_RECENT, len(self._sorted) // 16):
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent = set()
        return True

    def __contains__(self, digest: str) -> bool:
        value = int(digest, 16)
        if value in self._recent:
            return True
        at = int(np.searchsorted(self._sorted, np.uint64(value)))
        return at < len(self._sorted) and int(self._sorted[at]) == value

    def __len__(self) -> int:
        return len(self._recent) + len(self._sorted)
