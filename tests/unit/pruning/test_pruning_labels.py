"""Classes of tied ids against a plain union-find, and what freezing does to them."""

from __future__ import annotations

import numpy as np
import pytest

from autoprune.pruning.labels import OUTPUT, Field, Labels, Site


def plain_classes(count: int, edges: np.ndarray) -> list[int]:
    members = {number: {number} for number in range(count)}
    for a, b in edges.tolist():
        if members[a] is not members[b]:
            members[a] |= members[b]
            for other in members[b]:
                members[other] = members[a]
    return [min(members[number]) for number in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_classes_are_connected_components(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 400))
    edges = rng.integers(1, count, (int(rng.integers(0, count)), 2))
    labels = Labels()
    labels.new(count - 1)
    for part in np.array_split(edges, 3):
        labels.tie(part[:, 0], part[:, 1], "")
    assert labels.solve().classes.tolist() == plain_classes(count, edges)


def test_a_long_chain_is_one_class() -> None:
    labels = Labels()
    ids = labels.new(10_000)
    order = np.random.default_rng(0).permutation(ids)
    labels.tie(order[:-1], order[1:], "")
    assert set(labels.solve().classes[ids].tolist()) == {1}


def test_ties_to_what_stays_freeze_the_whole_class_and_no_other() -> None:
    labels = Labels()
    ids = labels.new(6)
    labels.tie(ids[:2], ids[2:4], "")
    labels.tie(ids[2:3], np.zeros(1, dtype=np.int64), "meets a constant")
    solution = labels.solve()
    assert solution.frozen == {1: "meets a constant"}
    assert solution.classes[ids].tolist() == [1, 2, 1, 2, 5, 6]


def test_reaching_the_output_outranks_other_reasons() -> None:
    labels = Labels()
    ids = labels.new(1)
    for reason in ("first", OUTPUT, "later"):
        labels.freeze(ids, reason)
    assert labels.solve().frozen == {1: OUTPUT}


def test_a_parameter_takes_the_ids_that_it_meets() -> None:
    labels = Labels()
    site, other = Site("weight", 0, 3), Site("bias", 0, 3)
    met, ids = Field(None, (site,)), labels.new(3)
    labels.join(Field(ids), met, 3, "")
    assert met.ids is ids
    labels.join(met, Field(None, (other,)), 3, "")
    assert other.ids is ids
