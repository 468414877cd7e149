"""One thread for torch, here and in the processes that tests start: the networks are small and the tests many."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
