"""AMC (He et al. 2018): a DDPG agent that walks through the groups of the network and decides how much each keeps.

The networks are two small perceptrons, written in NumPy: no torch in the process that proposes, and a gradient step of
a fraction of a millisecond. How a candidate gets its weights, with or without reconstruction, is the evaluator's
business: the reward is what it measures.
"""

from __future__ import annotations

from autoprune.controllers.amc.controller import AmcController

__all__ = ["AmcController"]
