"""What the mended agent sees before it decides about a group, and what its decisions mean.

An action is relative: 0.5 for all groups keeps the same share of each, and the budget settles how much that is. So the
agent learns how to allocate channels, and what it learns at one budget holds at others.
"""

from __future__ import annotations

import numpy as np

from autoprune.controllers.amc.states import scaled_layers
from autoprune.space import SearchSpace

__all__ = ["Steps"]

_FORMS = ("macs", "flops", "params", "keep_ratio")
_HALVINGS = 12


class Steps:
    """States, and the widths that actions stand for under a cost.

    A state has the layers that read the group (scaled to [0, 1] over the steps), the group's share of the MACs, which
    group it is (one-hot), and what depends on the episode: the action before, the mean of all actions before (weighted
    by MACs), the share of the MACs that is still to come, and where the episode's cost lies between the reachable ones.
    """

    def __init__(self, space: SearchSpace, metric: str) -> None:
        self.full = space.vector(space.full()).astype(float)
        self.least = np.log(space.vector(space.minimum()) / self.full)
        self.reach = max(float(-self.least.min()), 1e-9)
        """The largest logarithm of a factor that the floors leave room for."""
        share = space.cost.share()
        table = np.hstack([scaled_layers(space.cost), share[:, None], np.eye(len(share))])
        self.static = table.astype(np.float32)
        """(G, F): what does not depend on the episode."""
        self.features = table.shape[1] + 4
        self._weights = share + 1e-3
        self._before = np.concatenate([[0.0], np.cumsum(self._weights)[:-1]])
        self._later = 1.0 - np.cumsum(self._weights) / self._weights.sum()
        self._form = space.cost.form(metric if metric in _FORMS else "macs")

    def __len__(self) -> int:
        return len(self.full)

    def along(self, actions: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """States along episodes: actions (N, T) in [0, 1] of the first T groups, shares (N,) -> (N, T, S) float32."""
        count = actions.shape[1]
        weighted = actions * self._weights[:count]
        first = np.full((len(actions), 1), 0.5)
        mean = np.hstack([first, np.cumsum(weighted, axis=1)[:, :-1] / self._before[1:count]])
        before = np.hstack([first, actions[:, :-1]])
        later = np.broadcast_to(self._later[:count], actions.shape)
        dynamic = np.stack([before, mean, later, np.broadcast_to(shares[:, None], actions.shape)], axis=2)
        static = np.broadcast_to(self.static[:count], (len(actions), count, self.static.shape[1]))
        return np.concatenate([static, dynamic], axis=2, dtype=np.float32)

    # --- actions under a cost ----------------------------------------------------------------------------------------

    def cost(self, logs: np.ndarray) -> np.ndarray:
        """Logarithms of keep_ratios (N, G) -> the cost that widths are traded in, (N,); MACs for a bound on latency."""
        widths = np.exp(logs) * self.full
        form = self._form
        return np.asarray(form.constant + widths @ form.linear + ((widths @ form.matrix) * widths).sum(axis=1))

    def placed(self, actions: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """Actions (N, G) -> logarithms of keep_ratios (N, G) that cost at most ``costs`` (N,), without rounding."""
        relative = self.reach * (2.0 * actions - 1.0)
        low, high = np.full((len(actions), 1), -2 * self.reach), np.full((len(actions), 1), 2 * self.reach)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fits = (self.cost(np.clip(relative + middle, self.least, 0.0)) <= costs)[:, None]
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        return np.clip(relative + low, self.least, 0.0)

    def net_of_cost(self, logs: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """What a group gains by keeping more while the others pay for it.

        ``slopes`` (N, G): d value / d logarithm of each keep_ratio. The price of the budget is the common factor's
        slope of the value over its slope of the cost; a group at an end of its range takes no part.
        """
        widths = np.exp(logs) * self.full
        prices = (self._form.linear + 2.0 * widths @ self._form.matrix) * widths
        highest, lowest = logs >= -1e-6, logs <= self.least + 1e-6
        free = ~highest & ~lowest
        spent = np.where(free, prices, 0.0).sum(axis=1, keepdims=True)
        rate = np.where(free, slopes, 0.0).sum(axis=1, keepdims=True) / np.maximum(spent, 1e-9)
        net = slopes - rate * prices
        return np.where((highest & (net > 0)) | (lowest & (net < 0)), 0.0, net)
