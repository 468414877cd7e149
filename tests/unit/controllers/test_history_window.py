"""What controllers remember of a long search, and what it takes."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest

from autoprune.config.controllers import OptunaControllerConfig, RegressionControllerConfig
from autoprune.controllers.digests import Digests
from autoprune.controllers.window import is_full, kept


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


def test_digests_are_a_set() -> None:
    known, plain = Digests(), set()
    for number in [*range(9000), *range(4000, 12_000)]:
        assert known.add(digest(number)) == (digest(number) not in plain)
        plain.add(digest(number))
    assert len(known) == len(plain) == 12_000
    assert all(each in known for each in plain)
    assert not any(digest(number) in known for number in range(12_000, 13_000))
    for edge in ("0" * 16, "f" * 16):
        assert edge not in known
        assert known.add(edge)
        assert edge in known


def test_digests_take_a_few_bytes_each() -> None:
    known = Digests()
    for number in range(50_000):
        known.add(digest(number))
    recent = len(known._recent) * sys.getsizeof(1 << 63) + sys.getsizeof(known._recent)
    assert known._sorted.nbytes + recent < 20 * 50_000


def test_the_best_and_the_latest_stay() -> None:
    losses = np.array([[3.0, 3.0], [0.0, 1.0], [5.0, 5.0], [1.0, 0.0], [np.inf, np.inf], [4.0, 4.0], [6.0, 6.0]])
    assert kept(losses, 4).tolist() == [1, 3, 5, 6]


def test_nothing_goes_before_there_is_more_than_the_history() -> None:
    losses = np.random.default_rng(0).uniform(size=(50, 2))
    assert kept(losses, 50).tolist() == kept(losses, 60).tolist() == list(range(50))
    assert not is_full(50, 50)
    assert is_full(9, 8)


def test_bad_trials_are_never_among_the_best() -> None:
    losses = np.vstack(
        [np.full((6, 2), np.inf), np.random.default_rng(1).uniform(size=(6, 2)), np.full((2, 2), np.inf)]
    )
    assert kept(losses, 8).tolist() == [6, 7, 8, 9, 10, 11, 12, 13]
    assert kept(np.full((9, 2), np.inf), 4).tolist() == [0, 1, 7, 8]


@pytest.mark.parametrize("config", [OptunaControllerConfig(), RegressionControllerConfig()])
def test_older_searches_keep_their_digest(config: OptunaControllerConfig | RegressionControllerConfig) -> None:
    assert "history" not in config.model_dump()
    changed = config.model_copy(update={"history": 500})
    assert changed.model_dump()["history"] == 500
