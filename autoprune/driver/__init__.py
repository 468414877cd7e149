"""The driver: joins controller, constraints, limits and store behind ask and tell."""

from autoprune.driver.session import Session

__all__ = ["Session"]
