"""Who proposes candidates: ``registry.make`` turns a configuration into a controller."""

from __future__ import annotations

from autoprune.controllers.registry import make, names

__all__ = ["make", "names"]
