"""The faults are those of tests/benchmarks: its modules are imported here, and by the drivers that they start."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
