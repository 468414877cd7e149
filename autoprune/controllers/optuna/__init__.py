"""Optuna's samplers over the search space, in memory: the store is the only record."""

from autoprune.controllers.optuna.controller import OptunaController

__all__ = ["OptunaController"]
