"""Contract tests that plugin authors subclass, and the toy search that they run on (numpy only, no torch).

Criteria have theirs in ``autoprune.testing.criteria``, which imports torch.
"""

from __future__ import annotations

from autoprune.testing.controllers import ControllerContract
from autoprune.testing.toy import ToySearch, toy_space

__all__ = ["ControllerContract", "ToySearch", "toy_space"]
