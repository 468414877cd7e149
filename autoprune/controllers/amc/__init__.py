"""AMC (He et al. 2018): a DDPG agent that walks through the groups of the network and decides how much each keeps.

``paper`` is the released code's way, ``fixed`` mends what kept it from learning within some dozen episodes: the reward
is split over the steps of an episode (:mod:`.critic`), actions are relative to the budget (:mod:`.steps`), and the
actor pays for what it keeps (:mod:`.allocator`).

The networks are small perceptrons, written in NumPy: no torch in the process that proposes, and a gradient step of
a fraction of a millisecond. How a candidate gets its weights, with or without reconstruction, is the evaluator's
business: the reward is what it measures.
"""

from __future__ import annotations

from autoprune.controllers.amc.controller import AmcController

__all__ = ["AmcController"]
